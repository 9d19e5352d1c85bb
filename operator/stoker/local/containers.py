"""A local run's command in a container: the image that a cluster runs, by docker or podman on this machine.

Folders keep their paths inside: the same variables and the same text mean the same files. The launcher stays outside, so
log, limits, saving and the exit code are those of every local run.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.errors import BadInput, StokerError
from stoker.runtime.layout import Scratch

TOOLS = ("docker", "podman")
#: Of the user's shell, that the tool itself reads: another value of these is told to the container alone.
_OF_THE_TOOL = ("CONTAINER", "DOCKER_", "LD_", "PODMAN_", "XDG_")


class ImageNotHere(StokerError):
    """The image could neither be found on this machine nor pulled; the message has the tool's words."""


@dataclass(frozen=True)
class Container:
    """What the command runs in. tool: docker or podman. program: its path. image: a reference. definition_key: hex, of
    the environment that it is an image of. source: where the reference comes from: `given`, or `cluster`."""

    tool: str
    program: str
    image: str
    definition_key: str = ""
    source: str = "given"

    def record(self) -> dict[str, str]:
        """What job.json says of the environment; an empty key is left out."""
        told = {"definitionKey": self.definition_key, "source": self.source, "runtime": self.tool}
        return {name: text for name, text in told.items() if text}


def find(tool: str) -> str:
    """The program of a tool; raises BadInput where there is none, or where its containers cannot see our folders."""
    if sys.platform == "win32":
        fix = "leave it out, run inside WSL, or name a cluster with --compute"
        raise BadInput("--local-runtime", "folders of Windows have other names in a container", fix)
    if found := shutil.which(tool):
        return found
    others = [other for other in TOOLS if other != tool and shutil.which(other)]
    fix = f"use --local-runtime {others[0]}" if others else f"install {tool}, or name a cluster with --compute"
    raise BadInput("--local-runtime", f"{tool} is not installed", fix)


def bring(container: Container, say: Callable[[str], None]) -> str:
    """Have the image on this machine; its digest, or the id of an image that no registry has. Raises ImageNotHere."""
    found = _inspect(container)
    if found is None:
        say(f"pulling {container.image} with {container.tool}")
        done = _ask([container.program, "pull", "--quiet", container.image])
        if done.returncode:
            raise ImageNotHere(f"environment: {container.tool} could not pull {container.image}: {_words(done)}")
        found = _inspect(container)
    if found is None:
        raise ImageNotHere(f"environment: {container.tool} pulled {container.image} and does not show it")
    digests = [text.partition("@")[2] for text in found.get("RepoDigests") or ()]
    return next(filter(None, digests), "") or str(found.get("Id") or "")


def _inspect(container: Container) -> Mapping[str, Any] | None:
    """What the tool knows of the image, None when it is not here. Raises ImageNotHere when the tool does not work."""
    done = _ask([container.program, "image", "inspect", container.image])
    try:
        found = json.loads(done.stdout or "[]")
    except ValueError:
        found = []
    if done.returncode == 0 and found:
        first: Mapping[str, Any] = found[0]
        return first
    # An image that is not here and a daemon that does not answer both end with 1.
    version = _ask([container.program, "version"])
    if version.returncode:
        raise ImageNotHere(f"environment: {container.tool} does not work here: {_words(version)}")
    return None


def command(
    container: Container, name: str, scratch: Scratch, text: str, variables: Mapping[str, str], *,
    inputs: Collection[Path] = (), shared_memory_bytes: int | None = None, host_network: bool = False,
) -> list[str]:  # fmt: skip
    """The words that run a rank's text in a container of that name. variables: of the command, beyond the tool's own.
    inputs: read and not written. Their values stay out of the words wherever the tool can inherit them."""
    words = [container.program, "run", "--rm", "--init", "--name", name, "--workdir", scratch.work]
    words += _mount(scratch.root)
    for place in sorted({str(place) for place in inputs}):
        words += _mount(place, read_only=True)
    if host_network:
        words += ["--network", "host"]
    if shared_memory_bytes is not None:
        words += ["--shm-size", str(shared_memory_bytes)]
    words += _user(container)
    for variable, value in sorted(variables.items()):
        words += ["--env", variable if _is_inherited(variable, value) else f"{variable}={value}"]
    return [*words, container.image, "sh", "-c", text]


def variables(environment: Mapping[str, str], asked: Collection[str], scratch: Scratch) -> dict[str, str]:
    """The command's variables in a container: Stoker's and the job's, none of the user's shell; HOME and caches on
    scratch, as in a pod. environment: of a rank without a container. asked: names that the job sets."""
    own = {name: value for name, value in environment.items() if os.environ.get(name) != value or name in asked}
    for name in ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX"):
        if name not in asked:
            own.pop(name, None)
    home = Path(scratch.root, "home")
    home.mkdir(exist_ok=True)
    plain = {"HOME": str(home), "USER": "stoker", "LOGNAME": "stoker", "XDG_CACHE_HOME": str(home / ".cache"),
             "PYTHONUNBUFFERED": "1"}  # fmt: skip
    return {**plain, **own}


def inherited(told: Mapping[str, str]) -> dict[str, str]:
    """The tool's own environment: the user's shell, and the variables that it hands on. told: as `variables` made them."""
    return {**os.environ, **{name: value for name, value in told.items() if _is_inherited(name, value)}}


def remove(container: Container, names: Sequence[str], warn: Callable[[str], None]) -> None:
    """End what is left of these containers: a tool that was killed leaves its container running."""
    listed = _ask([container.program, "ps", "--all", "--format", "{{.Names}}"])
    left = [name for name in names if name in listed.stdout.split()]
    if not left and listed.returncode == 0:
        return
    done = _ask([container.program, "rm", "--force", *(left or names)])
    if done.returncode:
        warn(
            f"containers {', '.join(left or names)} may still run: {_words(done)}; {container.tool} rm --force ends them"
        )


def _is_inherited(name: str, value: str) -> bool:
    """Whether the tool's own environment can carry it: not where the tool, or what starts it, would read it itself."""
    return not name.startswith(_OF_THE_TOOL) and os.environ.get(name, value) == value


def _mount(place: str, *, read_only: bool = False) -> list[str]:
    if "," in place:
        raise BadInput("--local-runtime", f"{place}: docker and podman take no comma in a path", "rename the folder")
    return ["--mount", f"type=bind,source={place},target={place}" + (",readonly" if read_only else "")]


def _user(container: Container) -> list[str]:
    """Files that the command writes belong to who runs stoker, as without a container."""
    if not hasattr(os, "getuid"):
        return []
    words = ["--user", f"{os.getuid()}:{os.getgid()}"]
    if container.tool == "podman":
        # Where SELinux is enforced, a bind mount keeps the user's label.
        words += ["--security-opt", "label=disable"]
        if os.getuid() != 0:
            # Rootless: the user of this machine is that user inside too.
            words.append("--userns=keep-id")
    return words


def _ask(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )


def _words(done: "subprocess.CompletedProcess[str]") -> str:
    lines = (done.stderr or done.stdout or "").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
