"""What launch has to know, written before the command starts: as JSON, and as variables for a launcher in `sh`."""

from __future__ import annotations

import shlex
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from stoker.runtime import contract, distribution, wire
from stoker.runtime.layout import Scratch, read_json, write_atomic, write_json

DEFAULT_LOG_BYTES = 1 << 30
DEFAULT_GRACE_SECONDS = 600


class LaunchConfig(NamedTuple):
    """launch.json. pip: requirements that the image must meet. Times in seconds, sizes in bytes, None = no limit.
    set_env is set whatever is there; default_env only where the variable is not set; aliases are other names of variables
    that are set, where the other name is free."""

    pip: List[str] = []  # noqa: RUF012 - a NamedTuple's default, never changed
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    timeout_seconds: Optional[float] = None
    log_bytes: int = DEFAULT_LOG_BYTES
    scratch_bytes: Optional[int] = None
    set_env: Mapping[str, str] = {}
    default_env: Mapping[str, str] = {}
    aliases: Mapping[str, str] = {}
    distribution: Optional[distribution.Distribution] = None

    @property
    def training_grace_seconds(self) -> float:
        """The command's share of the grace period; the rest belongs to saving what it wrote."""
        return max(2.0, 0.2 * self.grace_seconds)


def pod_config(job: Mapping[str, Any], scratch: Scratch, inputs: Mapping[str, str], attempt: int = 1) -> LaunchConfig:
    """The configuration of a pod from its job.json. inputs: paths of single-file inputs by name: only fetch knows
    the file's own name, so `STOKER_INPUT_<name>` is set by launch."""
    limits = job.get("limits") or {}
    users = {**(job.get("env") or {}), **(job.get("envReferences") or {})}
    own = _single_node(job, scratch, attempt)
    # The container's runtime always sets HOME; for a uid without a passwd entry that is `/`, which nobody may write.
    home = {} if "HOME" in users else {"HOME": scratch.home}
    return LaunchConfig(
        pip=list(job.get("pip") or []),
        grace_seconds=limits.get("graceSeconds") or DEFAULT_GRACE_SECONDS,
        timeout_seconds=limits.get("timeoutSeconds"),
        log_bytes=limits.get("logBytes") or DEFAULT_LOG_BYTES,
        scratch_bytes=limits.get("scratchBytes"),
        # Whatever is there: a Secret or ConfigMap with such a name among its keys does not say who we are.
        set_env={
            **home,
            **{"STOKER_INPUT_" + name: path for name, path in inputs.items()},
            **{name: text for name, text in own.items() if name.startswith("STOKER_")},
        },
        default_env={
            # getpass.getuser() reads these before it looks for a passwd entry.
            "USER": "stoker",
            "LOGNAME": "stoker",
            "XDG_CACHE_HOME": scratch.home + "/.cache",
            "TMPDIR": scratch.tmp,
            "PYTHONUNBUFFERED": "1",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:%d" % wire.TRACKING_PORT,
            **{name: text for name, text in own.items() if not name.startswith("STOKER_")},
            **contract.texts(job, scratch),
        },
        aliases=contract.aliases(job),
        distribution=distribution.read(job.get("distribution")),
    )


def _single_node(job: Mapping[str, Any], scratch: Scratch, attempt: int) -> Dict[str, str]:
    """The variables of a run on one node. They are not in its pod's spec: each of them there costs the API server work
    at every write to the pod. The ranks of several nodes get theirs from the pod, which alone knows its rank."""
    if int(job.get("instanceCount") or 1) != 1:
        return {}
    return {
        "STOKER_JOB": str(job.get("key") or ""),
        "STOKER_ATTEMPT": str(attempt),
        "STOKER_RANK": "0",
        "STOKER_NODE_COUNT": "1",
        "STOKER_HOSTS": "localhost",
        "STOKER_CHECKPOINT_DIR": scratch.work + "/outputs/checkpoints",
        "NODE_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(wire.MASTER_PORT),
    }


def write_config(scratch: Scratch, config: LaunchConfig) -> None:
    """Write run/launch.json and run/launch.env."""
    write_json(
        scratch.launch,
        {
            "version": 1,
            "pip": config.pip,
            "graceSeconds": config.grace_seconds,
            "timeoutSeconds": config.timeout_seconds,
            "logBytes": config.log_bytes,
            "scratchBytes": config.scratch_bytes,
            "setEnv": dict(config.set_env),
            "defaultEnv": dict(config.default_env),
            "aliases": dict(config.aliases),
            "distribution": config.distribution.document() if config.distribution else None,
        },
    )
    lines = [
        "stoker_pip=%s" % shlex.quote(", ".join(config.pip)),
        "stoker_grace=%d" % max(1, round(config.training_grace_seconds)),
        "stoker_timeout=%s" % ("" if config.timeout_seconds is None else max(1, round(config.timeout_seconds))),
        "stoker_log_bytes=%d" % config.log_bytes,
        "stoker_distribution=%s" % (config.distribution.type if config.distribution else ""),
    ]
    lines += ["export %s=%s" % (name, shlex.quote(value)) for name, value in sorted(config.set_env.items())]
    for name, value in sorted(config.default_env.items()):
        lines.append('[ -n "${%s+set}" ] || export %s=%s' % (name, name, shlex.quote(value)))
    for name, other in sorted(config.aliases.items()):
        lines.append('[ -n "${%s+set}" ] || [ -z "${%s+set}" ] || export %s="$%s"' % (name, other, name, other))
    write_atomic(scratch.launch_env, ("\n".join(lines) + "\n").encode("utf-8"))


def read_config(scratch: Scratch) -> LaunchConfig:
    """The configuration in run/launch.json; defaults when there is none. Raises ValueError."""
    document = read_json(scratch.launch)
    if document is None:
        return LaunchConfig()
    if not isinstance(document, dict) or document.get("version") != 1:
        raise ValueError("%s is not a launch.json of version 1" % scratch.launch)
    return LaunchConfig(
        pip=list(document.get("pip") or []),
        grace_seconds=float(document.get("graceSeconds") or DEFAULT_GRACE_SECONDS),
        timeout_seconds=_number(document.get("timeoutSeconds")),
        log_bytes=int(document.get("logBytes") or DEFAULT_LOG_BYTES),
        scratch_bytes=document.get("scratchBytes"),
        set_env=_texts(document.get("setEnv")),
        default_env=_texts(document.get("defaultEnv")),
        aliases=_texts(document.get("aliases")),
        distribution=distribution.read(document.get("distribution")),
    )


def complete(config: LaunchConfig, environment: Mapping[str, str]) -> Dict[str, str]:
    """The command's variables from those that the container, or the user's shell, gives."""
    found = {**environment, **config.set_env}
    for name, value in config.default_env.items():
        found.setdefault(name, value)
    for name, other in config.aliases.items():
        if other in found:
            found.setdefault(name, found[other])
    for name, value in contract.of_node(found).items():
        found.setdefault(name, value)
    return found


def _number(value: Any) -> Optional[float]:
    return None if value is None else float(value)


def _texts(value: Any) -> Dict[str, str]:
    return {str(name): str(text) for name, text in (value or {}).items()}
