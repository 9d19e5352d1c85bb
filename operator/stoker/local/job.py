"""A local run as a value: everything it needs, decided before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stoker.core.gitstate import GitState
from stoker.local.containers import Container
from stoker.local.environments.wanted import Wanted
from stoker.storage.snapshot import Hashed


@dataclass(frozen=True)
class LocalInput:
    """An input. value: a literal; path: where it lies on this machine; url: a storage URL that is copied first; secret: a
    value that the command's environment alone may hold. digest: of what lies at path. expected: the digest that the data must
    have, empty for any."""

    kind: str
    value: str | None = None
    path: Path | None = None
    url: str | None = None
    secret: str | None = field(default=None, repr=False)
    digest: str = ""
    expected: str = ""


@dataclass(frozen=True)
class Code:
    """The code: a folder with its hashed listing, texts by path, a snapshot that an earlier run kept in the store (by its
    digest), or nothing. git: what Git knows of a folder."""

    root: Path | None = None
    hashed: Hashed | None = None
    inline: Mapping[str, str] | None = None
    kept: str = ""
    git: GitState | None = None


@dataclass(frozen=True)
class LocalJob:
    """What runs. spec: of the TrainingJob, without code and environment filled in for a cluster. store_url: where the
    record, logs and outputs go. drawn: variables with `valueFrom`, for the command's environment alone. fresh: have the
    packages of the environment chosen anew. container: run the command in it, and use no environment of this machine. lock_key:
    the packages must be exactly those of an earlier run; empty for any."""

    name: str
    uid: str
    spec: Mapping[str, Any]
    code: Code
    wanted: Wanted
    store_url: str
    inputs: Mapping[str, LocalInput] = field(default_factory=dict)
    image: str = ""
    drawn: Mapping[str, str] = field(default_factory=dict, repr=False)
    fresh: bool = False
    container: Container | None = None
    lock_key: str = ""


@dataclass(frozen=True)
class LocalResult:
    """How it ended. record: result.json as stored. storage, logs: URLs. folder: the same as a path, for file: stores."""

    record: Mapping[str, Any]
    storage: str
    logs: str
    folder: Path | None


class Listener(Protocol):
    """Who hears of a run's progress."""

    def step(self, label: str, what: str, detail: str = "", seconds: float | None = None) -> None:
        """One phase, done or begun."""

    def note(self, line: str) -> None:
        """One line of progress within a phase."""

    def warn(self, line: str) -> None:
        """Something that a person should know, however quiet it shall be."""

    def log_descriptor(self) -> int:
        """The file descriptor that the command's log is copied to."""
