"""What buildctl tells: its progress as lines of our log, and why a solve failed.

With `--progress=rawjson` it writes one JSON document a line to standard error, and its last words between them as text.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from stoker.images.failure import BuildFailed

#: Most of a step's own words that a failure repeats (characters); the log has them all.
_MOST_TAIL = 1500
_INTERNAL = "[internal]"
_LINE = re.compile(r"^Dockerfile:(\d+)$", re.MULTILINE)
_EXIT = re.compile(r"did not complete successfully: exit code: (\d+)")
_ERROR = re.compile(r"^error: (.*)", re.MULTILINE | re.DOTALL)
_REFUSED = re.compile(r"401 Unauthorized|403 Forbidden|authorization failed|access denied|insufficient_scope")
_NO_CONNECTION = re.compile(r"failed to list workers|connection error: desc|error reading from server|Unavailable: ")
_KILLED = 137


class _Vertex(msgspec.Struct, frozen=True):
    digest: str = ""
    name: str = ""
    started: datetime | None = None
    completed: datetime | None = None
    cached: bool = False
    error: str = ""


class _Output(msgspec.Struct, frozen=True):
    vertex: str = ""
    data: str = ""


class _Status(msgspec.Struct, frozen=True):
    vertexes: tuple[_Vertex, ...] | None = None
    logs: tuple[_Output, ...] | None = None


@dataclass
class Progress:
    """Turns buildctl's lines into lines for people, and keeps what a failure is explained from."""

    words: list[str] = field(default_factory=list)
    tail: str = ""
    _names: dict[str, str] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)
    _ended: set[str] = field(default_factory=set)
    _open_lines: dict[str, str] = field(default_factory=dict)

    def read(self, line: str) -> list[tuple[str, float | None]]:
        """What one line tells: (text, seconds that it took or None)."""
        if not line.startswith("{"):
            self.words.append(line)
            return []
        try:
            status = msgspec.json.decode(line, type=_Status)
        except msgspec.DecodeError:
            self.words.append(line)
            return []
        facts: list[tuple[str, float | None]] = []
        for vertex in status.vertexes or ():
            facts += self._vertex(vertex)
        for output in status.logs or ():
            facts += self._output(output)
        return facts

    def _vertex(self, vertex: _Vertex) -> list[tuple[str, float | None]]:
        self._names[vertex.digest] = vertex.name
        if vertex.name.startswith(_INTERNAL):
            return []
        facts: list[tuple[str, float | None]] = []
        first_line = vertex.name.split("\n", 1)[0]
        if vertex.started and vertex.digest not in self._begun:
            self._begun.add(vertex.digest)
            facts.append((first_line, None))
        if vertex.completed and vertex.digest not in self._ended and (vertex.cached or _lasted(vertex) >= 0.05):
            self._ended.add(vertex.digest)
            facts += [(f"  {left}", None) for left in [self._open_lines.pop(vertex.digest, "")] if left]
            end = "as built before" if vertex.cached else (vertex.error and f"failed: {vertex.error}") or "done"
            facts.append((f"{_place(first_line)}{end}", _lasted(vertex)))
        return facts

    def _output(self, output: _Output) -> list[tuple[str, float | None]]:
        text = base64.b64decode(output.data).decode(errors="replace")
        self.tail = (self.tail + text)[-_MOST_TAIL:]
        # A piece may end within a line: the rest of it comes with the next.
        *whole, rest = (self._open_lines.get(output.vertex, "") + text).split("\n")
        self._open_lines[output.vertex] = rest
        return [(f"  {line.rstrip()}", None) for line in whole]


def _lasted(vertex: _Vertex) -> float:
    if vertex.started is None or vertex.completed is None:
        return 0.0
    return (vertex.completed - vertex.started).total_seconds()


def _place(name: str) -> str:
    """`[2/4] ` of `[2/4] RUN make`."""
    found = re.match(r"\[[^\]]*\d+/\d+\] ", name)
    return found[0] if found else ""


def failure(words: str, tail: str, steps: Sequence[str], lines: Sequence[int], registry: str) -> BuildFailed:
    """Why buildctl ended with an error. words: its last words. tail: the end of what the steps printed. lines: the line of
    the Dockerfile at which each step begins; the base stands in line 1. registry: where the image was to go."""
    found = _ERROR.search(words)
    error = (found[1] if found else words).strip().removeprefix("failed to solve: ") or "buildctl ended without a word"
    located = _LINE.search(words)
    line = int(located[1]) if located else 0
    if _NO_CONNECTION.search(error):
        return BuildFailed("NoBuilderAvailable", f"BuildKit does not answer: {error}", transient=True)
    if "no space left on device" in error or "no space left on device" in tail:
        return BuildFailed(
            "DiskFull",
            f"BuildKit's disk is full: {error}",
            transient=True,
            fix="raise buildkit.storage.size in the chart's values, or make room where buildkit.address points to",
        )
    if "failed to push" in error:
        if _REFUSED.search(error):
            message = f"{registry} refused the image: {error}; check the registry's Secret in the Workspace"
            return BuildFailed("PushDenied", message)
        return BuildFailed("RegistryUnreachable", f"{registry}: {error}", transient=True)
    if line == 1:
        return _base(error)
    return _step(error, tail, steps, _index(lines, line))


def _base(error: str) -> BuildFailed:
    if _REFUSED.search(error):
        return BuildFailed(
            "BaseImageUnauthorized",
            f"the base image may not be pulled: {error}; name a pull secret for its registry in imagePullSecrets",
            where="image",
        )
    if "no match for platform" in error:
        return BuildFailed(
            "ArchitectureMismatch", f"the base image is not for the platform of the nodes: {error}", where="image"
        )
    if error.endswith("not found"):
        return BuildFailed("BaseImageNotFound", f"the base image is not there: {error}", where="image")
    return BuildFailed("RegistryUnreachable", f"the base image cannot be pulled now: {error}", transient=True)


def _step(error: str, tail: str, steps: Sequence[str], index: int | None) -> BuildFailed:
    exited = _EXIT.search(error)
    code = int(exited[1]) if exited else None
    if index is None:
        return BuildFailed("DockerStepFailed", error)
    where = f"dockerSteps[{index}]"
    name = f"step {index + 1} of {len(steps)} ({_short(steps[index])})"
    if code == _KILLED:
        return BuildFailed(
            "OutOfMemory",
            f"{name} was killed (exit code {code}): BuildKit's memory is too small for it",
            where=where,
            transient=True,  # others' steps run there too
            fix="raise buildkit.resources.limits.memory in the chart's values, or let the step need less",
        )
    if code is None:
        return BuildFailed("DockerStepFailed", f"{name}: {error}", where=where)
    said = "\n".join(tail.strip().splitlines()[-10:])
    return BuildFailed(
        "DockerStepFailed", f"{name} ended with exit code {code}" + (f":\n{said}" if said else ""), where=where
    )


def _index(lines: Sequence[int], line: int) -> int | None:
    """The step that a line of the Dockerfile belongs to."""
    before = [index for index, first in enumerate(lines) if first <= line]
    return before[-1] if before else None


def _short(step: str) -> str:
    first, *more = step.splitlines()
    return first[:120] + ("…" if len(first) > 120 or more else "")


def document(text: str) -> Any:
    """What `--metadata-file` holds."""
    return msgspec.json.decode(text)
