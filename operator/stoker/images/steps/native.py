"""Docker steps that run nothing, done without BuildKit: what they change in an image's config, and what they copy.

Variables, working folder and quoting are as in a Dockerfile: ARG and ENV count from the step after, WORKDIR is
relative to the one before, CMD of the base goes when ENTRYPOINT is set. WORKDIR makes no layer: container runtimes
make a working folder that is not there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import isabs, join, normpath
from typing import Any

from stoker.core.environment import stepwords
from stoker.core.environment.stepplace import keyword, rest
from stoker.core.environment.stepwords import BadStep, expand
from stoker.images.compose import ConfigChanges

_SHELL = ("/bin/sh", "-c")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Copy:
    """One COPY. sources: paths or patterns in the context. target: absolute; into_folder: it ended with a slash, or there
    is more than one source. owner: uid and gid. mode: permission bits for all, or None for those of the files.
    step: the instruction, for messages and the image's history. working_dir: of the WORKDIR before it, which is there by
    then; empty without one."""

    sources: tuple[str, ...]
    target: str
    into_folder: bool
    step: str
    owner: tuple[int, int] = (0, 0)
    mode: int | None = None
    working_dir: str = ""


@dataclass
class _State:
    """What the steps so far have said, on top of the base's config."""

    platform: str
    env: dict[str, str]
    working_dir: str
    shell: tuple[str, ...]
    set_env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, None] = field(default_factory=dict)
    volumes: dict[str, None] = field(default_factory=dict)
    single: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)

    def expand(self, word: str) -> str:
        # ENV wins over an ARG of the same name.
        return expand(word, {**self.args, **self.env})

    def words(self, text: str) -> tuple[str, ...]:
        """The words of an instruction, in either of its forms, with variables replaced."""
        listed = stepwords.json_words(text)
        return tuple(self.expand(word) for word in (stepwords.split(text) if listed is None else listed))


def read(steps: Sequence[str], config: Mapping[str, Any], platform: str) -> tuple[ConfigChanges, tuple[Copy, ...]]:
    """What the steps change and copy, on top of a base's config document. Raises BadStep that names the step.

    platform: `os/architecture`, for `ARG TARGETARCH` and the like.
    """
    section = config.get("config") or {}
    env = dict(line.partition("=")[::2] for line in section.get("Env") or [])
    state = _State(platform, env, section.get("WorkingDir") or "/", tuple(section.get("Shell") or _SHELL))
    for number, step in enumerate(steps, start=1):
        try:
            _DO[keyword(step)](state, rest(step), step)
        except BadStep as error:
            raise BadStep(f"step {number} ({step.splitlines()[0]}): {error}") from None
    changes = ConfigChanges(
        env=tuple(state.set_env.items()),
        labels=tuple(state.labels.items()),
        exposed_ports=tuple(state.ports),
        volumes=tuple(state.volumes),
        history=tuple(state.history),
        **state.single,
    )
    return changes, tuple(state.copies)


def _env(state: _State, text: str, step: str) -> None:
    # All values of one ENV see the variables as they were before it.
    new = {state.expand(name): state.expand(value) for name, value in stepwords.pairs(text)}
    state.env |= new
    state.set_env |= new
    state.history.append(step)


def _label(state: _State, text: str, step: str) -> None:
    state.labels |= {state.expand(name): state.expand(value) for name, value in stepwords.pairs(text)}
    state.history.append(step)


def _arg(state: _State, text: str, step: str) -> None:
    system, _, machine = state.platform.partition("/")
    architecture, _, variant = machine.partition("/")
    target = {"PLATFORM": state.platform, "OS": system, "ARCH": architecture, "VARIANT": variant}
    known = {f"{side}{name}": value for side in ("TARGET", "BUILD") for name, value in target.items()}
    for word in stepwords.split(text):
        name, equals, default = word.partition("=")
        if equals:
            state.args[name] = state.expand(default)
        elif name in known:
            state.args[name] = known[name]


def _workdir(state: _State, text: str, step: str) -> None:
    folder = state.expand(text)
    if not folder:
        raise BadStep("WORKDIR needs a folder")
    state.working_dir = state.single["working_dir"] = _absolute(folder, state.working_dir)
    state.history.append(step)


def _user(state: _State, text: str, step: str) -> None:
    words = stepwords.split(text)
    if len(words) != 1:
        raise BadStep("USER needs one user, such as 1000 or 1000:1000")
    state.single["user"] = state.expand(words[0])
    state.history.append(step)


def _expose(state: _State, text: str, step: str) -> None:
    for word in state.words(text):
        match = _PORTS.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if match is None or not 0 < first <= last <= _MOST_PORT:
            raise BadStep(f"{word!r} is not a port; write 8080, 8080/udp or 8000-8010")
        state.ports |= {f"{port}/{match[3] or 'tcp'}": None for port in range(first, last + 1)}
    state.history.append(step)


def _volume(state: _State, text: str, step: str) -> None:
    words = state.words(text)
    if not words or not all(words):
        raise BadStep("VOLUME needs a path, such as /data")
    state.volumes |= dict.fromkeys(words)
    state.history.append(step)


def _stop_signal(state: _State, text: str, step: str) -> None:
    if not (signal := state.expand(text)) or " " in signal:
        raise BadStep("STOPSIGNAL needs one signal, such as SIGINT")
    state.single["stop_signal"] = signal
    state.history.append(step)


def _shell(state: _State, text: str, step: str) -> None:
    words = stepwords.json_words(text)
    if not words:
        raise BadStep('SHELL is written as a list, such as SHELL ["/bin/bash", "-c"]')
    state.shell = state.single["shell"] = words
    state.history.append(step)


def _entrypoint(state: _State, text: str, step: str) -> None:
    state.single["entrypoint"] = _command(state, text)
    # As in a Dockerfile: the base's CMD was meant for the base's ENTRYPOINT.
    state.single.setdefault("cmd", ())
    state.history.append(step)


def _cmd(state: _State, text: str, step: str) -> None:
    state.single["cmd"] = _command(state, text)
    state.history.append(step)


def _command(state: _State, text: str) -> tuple[str, ...]:
    """Variables in a command are the shell's business, not ours."""
    listed = stepwords.json_words(text)
    if listed is not None:
        return listed
    return (*state.shell, text) if text else ()


def _copy(state: _State, text: str, step: str) -> None:
    listed, words = stepwords.split_flags(text)
    flags = dict(listed)
    *sources, target = state.words(words) or ("",)
    if not sources or not target:
        raise BadStep("COPY needs a source and a target, such as COPY app.py /app/")
    if len(sources) > 1 and not target.endswith("/"):
        raise BadStep("COPY of several sources needs a folder as its target: end it with a slash")
    user, _, group = flags.get("chown", "0").partition(":")
    state.copies.append(
        Copy(
            tuple(sources),
            _absolute(target, state.working_dir),
            target.endswith("/") or target in (".", "..") or len(sources) > 1,
            step,
            (int(user), int(group or user)),
            int(flags["chmod"], 8) if "chmod" in flags else None,
            state.single.get("working_dir", ""),
        )
    )


def _absolute(path: str, folder: str) -> str:
    # normpath keeps two leading slashes, as POSIX has it.
    return "/" + normpath(path if isabs(path) else join(folder, path)).lstrip("/")


_DO: Mapping[str, Callable[[_State, str, str], None]] = {
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
