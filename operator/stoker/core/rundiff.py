"""In what two runs differ: what was asked, what it ran on, what came of it. Only differences are told."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["code", "command", "inputs", "environment", "settings", "result", "outputs"]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run to compare. job, result: its record's documents; result None while it runs. files: digest of each file of its
    code by path, None where they cannot be read. packages: version by name of what was installed, None where unknown."""

    job: Mapping[str, Any]
    result: Mapping[str, Any] | None = None
    files: Mapping[str, str] | None = None
    packages: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. name: such as `lr` or `train.py`. one, other: what stands there; None for nothing."""

    part: Part
    name: str
    one: str | None
    other: str | None


def differences(one: RunFacts, other: RunFacts) -> tuple[Difference, ...]:
    """Everything in which two runs differ but for their names, times and places, in the order of `Part`."""
    return tuple(_all(one, other))


def _all(one: RunFacts, other: RunFacts) -> Iterator[Difference]:
    yield from _code(one, other)
    yield from _by_name("command", {"command": _command(one)}, {"command": _command(other)})
    yield from _by_name("inputs", dict(_inputs(one.job)), dict(_inputs(other.job)))
    yield from _environment(one, other)
    yield from _by_name("settings", dict(_settings(one.job)), dict(_settings(other.job)))
    if one.result is not None and other.result is not None:
        yield from _by_name("result", dict(_result(one.result)), dict(_result(other.result)))
        yield from _by_name("outputs", dict(_outputs(one.result)), dict(_outputs(other.result)))


def _code(one: RunFacts, other: RunFacts) -> Iterator[Difference]:
    left, right = one.job.get("snapshot"), other.job.get("snapshot")
    if left != right:
        if one.files is None or other.files is None:
            yield Difference("code", "snapshot", _text(left), _text(right))
        else:
            yield from _by_name("code", one.files, other.files)
    yield from _by_name("code", dict(_git(one.job)), dict(_git(other.job)))


def _git(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if job.get("commit"):
        yield "commit", f"{job['commit']}{' with changes' if job.get('dirty') else ''}"


def _command(facts: RunFacts) -> str:
    """As it was written: what its placeholders became is told of the inputs."""
    block = (facts.job.get("spec") or {}).get("command") or {}
    return str(block.get("command") or facts.job.get("command") or "")


def _inputs(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, one in (job.get("inputs") or {}).items():
        if "value" in one:
            yield name, str(one["value"])
        elif "secretRef" in one:
            yield name, f"Secret {one['secretRef'].get('name')}, key {one['secretRef'].get('key')}"
        else:
            # The same data under another path is the same data.
            yield name, str(one.get("digest") or one.get("snapshot") or one.get("source") or "")


def _environment(one: RunFacts, other: RunFacts) -> Iterator[Difference]:
    images = dict(_image(one.job)), dict(_image(other.job))
    yield from _by_name("environment", *images)
    if images[0] and images[0] == images[1]:
        return  # one image is one set of packages, however it was asked for
    if one.packages is not None and other.packages is not None:
        yield from _by_name("environment", one.packages, other.packages)
        return
    left, right = (facts.job.get("environment") or {} for facts in (one, other))
    yield from _by_name("environment", _texts(left, ("lockKey",)), _texts(right, ("lockKey",)))


def _image(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    image = job.get("image") or {}
    if image.get("digest") or image.get("reference"):
        yield "image", str(image.get("digest") or image["reference"])


def _settings(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    spec = job.get("spec") or {}
    block = spec.get("command") or {}
    yield from _flat("", {key: job[key] for key in ("compute", "experiment", "tags") if job.get(key)})
    yield from _flat("env", job.get("env") or {})
    yield from _flat("", {key: block[key] for key in ("resources", "distribution") if block.get(key)})
    yield from _flat("", {key: spec[key] for key in ("limits", "retry", "queue", "outputs") if spec.get(key)})


def _result(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _texts(result, ("phase", "reason", "exitCode")).items()
    yield from _flat("metrics", result.get("metrics") or {})


def _outputs(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for one in result.get("outputs") or ():
        rank = f" (rank {one['rank']})" if one.get("rank") else ""
        yield f"{one['path']}{rank}", str(one.get("sha256") or "")


def _flat(front: str, value: Any) -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every value in plain data."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{front}.{key}" if front else str(key), item)
    elif value is not None:
        yield front, _text(value) or ""


def _texts(value: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    return {key: str(value[key]) for key in keys if value.get(key) is not None}


def _by_name(part: Part, one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield Difference(part, name, one.get(name), other.get(name))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
