"""A job's record, as cluster and laptop write it: job.json before the first attempt, result.json at the end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stoker.api.common import SecretKey
from stoker.api.trainingjob import CommandJob, TrainingJobSpec
from stoker.core.gitstate import GitState

VERSION = 1
LOG_BYTES = 1 << 30
#: Of what lay below ./outputs and is no file, the record names so many; seals name all.
MOST_SKIPPED = 100
OUTPUTS = "outputs/"
#: What a list of runs shows of job.json and result.json.
SHORT_JOB = (
    "name", "namespace", "uid", "key", "experiment", "displayName", "tags", "submittedAt", "submittedBy", "compute",
    "command", "instanceCount",
)  # fmt: skip
SHORT_RESULT = ("phase", "reason", "message", "exitCode", "startedAt", "finishedAt", "timings")
#: The type of an input that only the command sees.
SECRET = "secret"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which run this is. key: its folder below jobs/. submitted_at: RFC 3339."""

    name: str
    namespace: str
    uid: str
    key: str
    submitted_at: str
    submitted_by: str | None = None


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a run is fixed to before its first attempt.

    command: shell text without placeholders. snapshot: digest of the code. git: what Git knew of it. image: reference and digest. environment: by
    what keys the image was found or built, empty for one that is run as it is. inputs: as job.json has them.
    """

    compute: str
    command: str
    timeout_seconds: int | None
    snapshot: str | None = None
    git: GitState | None = None
    image: tuple[str, str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    pip: Sequence[str] = ()
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    scratch_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RankEnd:
    """How one rank ended. seal: its seal.json, None where there is none (a local run cut off)."""

    rank: int
    seal: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended. Times RFC 3339, empty for what never happened; timings: seconds by phase. attempts: (number,
    how it ended, its ranks), oldest first."""

    phase: str
    reason: str
    message: str
    exit_code: int | None = None
    started_at: str = ""
    finished_at: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    attempts: Sequence[tuple[int, str, Sequence[RankEnd]]] = ()


def encode(record: Mapping[str, Any]) -> str:
    """The one way a record is written: sorted keys, two spaces, a newline at the end."""
    # The same bytes as json.dumps with indent, which is written in Python and was half of a plan's time.
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=2).decode() + "\n"


def job_record(identity: Identity, spec: TrainingJobSpec, pinned: Pinned) -> dict[str, Any]:
    """job.json."""
    block = spec.command
    return {
        "version": VERSION,
        **_who(identity),
        "experiment": spec.experiment,
        "displayName": spec.display_name,
        "description": spec.description,
        "tags": dict(spec.tags),
        "submittedAt": identity.submitted_at,
        "submittedBy": identity.submitted_by,
        "compute": pinned.compute,
        "command": pinned.command,
        "snapshot": pinned.snapshot,
        "commit": pinned.git.commit if pinned.git else None,
        **({"dirty": True, "diff": pinned.git.diff} if pinned.git and pinned.git.dirty else {}),
        "image": {"reference": pinned.image[0], "digest": pinned.image[1]} if pinned.image else None,
        **({"environment": dict(pinned.environment)} if pinned.environment else {}),
        "pip": list(pinned.pip),
        "instanceCount": block.resources.instance_count if block else 1,
        "env": {variable.name: variable.value for variable in block.env if variable.value_from is None}
        if block
        else {},
        **_references(block),
        **_distribution(block),
        "inputs": {name: dict(entry) for name, entry in pinned.inputs.items()},
        "outputs": {name: {"type": output.type, "mode": output.mode} for name, output in spec.outputs.items()},
        "limits": {
            "timeoutSeconds": pinned.timeout_seconds,
            "graceSeconds": spec.limits.grace_seconds,
            "logBytes": LOG_BYTES,
            "scratchBytes": pinned.scratch_bytes,
        },
        # Left out where it says what fetch does by itself, as in `_references`.
        **({"restore": spec.retry.restore} if spec.retry.restore != "Checkpoints" else {}),
        "spec": msgspec.to_builtins(spec),
    }


def result_record(identity: Identity, ending: Ending) -> dict[str, Any]:
    """result.json. Its outputs are those of the last attempt, paths below outputs/."""
    last = ending.attempts[-1] if ending.attempts else None
    return {
        "version": VERSION,
        **_who(identity),
        "phase": ending.phase,
        "reason": ending.reason,
        "message": ending.message,
        "exitCode": ending.exit_code,
        "startedAt": ending.started_at or None,
        "finishedAt": ending.finished_at,
        "timings": dict(ending.timings),
        "attempts": [
            {"number": number, "reason": reason, "ranks": [_rank(end) for end in ranks]}
            for number, reason, ranks in ending.attempts
        ],
        "outputs": list(_outputs(last[0], last[2])) if last else [],
        **({"metrics": found} if last and (found := metrics_of(last[2])) else {}),
        # Left out where there is nothing, as it nearly always is.
        **({"skipped": skipped} if last and (skipped := _skipped(last[2])) else {}),
    }


def metrics_of(ranks: Iterable[RankEnd]) -> dict[str, float]:
    """Last value by name of what rank 0 tracked: the others mostly say the same, or nothing."""
    seal = next((end.seal or {} for end in ranks if end.rank == 0), {})
    told = seal.get("exit")
    found = told.get("metrics") if isinstance(told, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    numbers = {str(name): value for name, value in found.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in sorted(numbers.items())}


def _skipped(ranks: Iterable[RankEnd]) -> list[dict[str, Any]]:
    """What lay below ./outputs and was not stored, for it is no file of the run: links to elsewhere, FIFOs, sockets."""
    found: list[dict[str, Any]] = []
    for end in ranks:
        entries = (end.seal or {}).get("skipped")
        for entry in entries if isinstance(entries, list | tuple) else ():
            path = str(entry.get("path") or "") if isinstance(entry, Mapping) else ""
            if path.startswith(OUTPUTS):
                told = {"path": path.removeprefix(OUTPUTS), "reason": str(entry.get("reason") or ""), "rank": end.rank}
                found.append(told)
    return found[:MOST_SKIPPED]


def _who(identity: Identity) -> dict[str, Any]:
    return {"name": identity.name, "namespace": identity.namespace, "uid": identity.uid, "key": identity.key}


def secret_input(reference: SecretKey) -> dict[str, Any]:
    """A secret input as job.json has it: where it is, never what it is."""
    return {"type": SECRET, "secretRef": {"name": reference.name, "key": reference.key}}


def _references(block: CommandJob | None) -> dict[str, Any]:
    """Variables by where their values come from, never the values. Left out where there are none: the record of a job
    without them stays what it was, byte for byte."""
    drawn = {one.name: one.value_from for one in block.env if one.value_from is not None} if block else {}
    told: dict[str, Any] = {"envReferences": msgspec.to_builtins(drawn)} if drawn else {}
    if block and block.env_from:
        told["envFrom"] = [msgspec.to_builtins(one) for one in block.env_from]
    return told


def _distribution(block: CommandJob | None) -> dict[str, Any]:
    """How the command is started as several processes. Left out where it is not, as in `_references`."""
    if block is None or block.distribution is None:
        return {}
    return {"distribution": msgspec.to_builtins(block.distribution)}


def _rank(end: RankEnd) -> dict[str, Any]:
    seal = end.seal or {}
    told = seal.get("exit")
    exit_record = told if isinstance(told, Mapping) else {}
    return {
        "rank": end.rank,
        "sealed": "complete" if seal.get("complete") is True else "incomplete",
        "exitCode": exit_record.get("code"),
        "reason": exit_record.get("reason") or seal.get("reason"),
    }


def _outputs(attempt: int, ranks: Iterable[RankEnd]) -> Iterable[dict[str, Any]]:
    for end in ranks:
        files = (end.seal or {}).get("files")
        for file in files if isinstance(files, list | tuple) else ():
            path = str(file.get("path") or "") if isinstance(file, Mapping) else ""
            if path.startswith(OUTPUTS):
                yield {
                    "path": path.removeprefix(OUTPUTS),
                    "size": file.get("size"),
                    "sha256": file.get("sha256"),
                    "attempt": attempt,
                    "rank": end.rank,
                }
