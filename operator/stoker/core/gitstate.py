"""What Git knew of the code when it was sent: a commit, and what differed from it. It travels in annotations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.api.names import ANNOTATION_COMMIT, ANNOTATION_DIFF

#: Longest difference that is kept, in characters; annotations hold 256 KiB together.
MOST_DIFF = 32_768
_COMMIT = re.compile(r"(?P<commit>[0-9a-f]{40}|[0-9a-f]{64})(?P<dirty>-dirty)?\Z")


@dataclass(frozen=True, slots=True)
class GitState:
    """commit: hex. dirty: whether files that were sent differ from it. diff: how, as text, cut at MOST_DIFF."""

    commit: str
    dirty: bool = False
    diff: str = ""

    def annotations(self) -> dict[str, str]:
        """As a TrainingJob carries it."""
        found = {ANNOTATION_COMMIT: self.commit + ("-dirty" if self.dirty else "")}
        return {**found, ANNOTATION_DIFF: self.diff} if self.diff else found


def told(annotations: Mapping[str, str]) -> GitState | None:
    """What a TrainingJob carries; None for nothing, and for what is no commit: annotations are anybody's."""
    found = _COMMIT.match(annotations.get(ANNOTATION_COMMIT, ""))
    if found is None:
        return None
    return GitState(found["commit"], bool(found["dirty"]), annotations.get(ANNOTATION_DIFF, "")[:MOST_DIFF])
