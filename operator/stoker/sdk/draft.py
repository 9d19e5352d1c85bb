"""A run as it was asked for, before anything was read, hashed or sent."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stoker.errors import BadInput

LOCAL = "local"


@dataclass(frozen=True)
class EnvironmentAsked:
    """What the command runs in, as the user names it.

    kind: `system` (the Python that runs stoker), `name` (an Environment in the cluster), `packages` (an image, a list of
    packages, both, or neither). source: what the plan shows: a file's name, `--environment`, `job.yaml`. options: lines of
    a requirements file that say where packages come from. python: what a conda file says of Python, such as `3.11`.
    conda: a conda file's `channels` and `dependencies`, whose pip section is in `pip` too; conda_text: the file's
    text, for the lines of messages. steps: docker steps. spec: of
    an Environment resource, as it is written there; it has all of the above.
    """

    kind: Literal["system", "name", "packages"]
    source: str = ""
    name: str = ""
    image: str = ""
    pip: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    python: str = ""
    conda: Mapping[str, Any] | None = None
    conda_text: str = ""
    steps: tuple[str, ...] = ()
    spec: Mapping[str, Any] | None = None
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalInput:
    """An input that lies on this machine. kind: uri_folder or uri_file."""

    path: Path
    kind: str


@dataclass(frozen=True)
class Draft:
    """A run as it was asked for.

    spec: a TrainingJob's spec without code, environment, compute and the local inputs. base: what a generated name
    starts with. code: a folder or a single file, None for no code; inline and snapshot: as in a manifest.
    """

    base: str
    source: str
    spec: Mapping[str, Any]
    environment: EnvironmentAsked | None
    code: Path | None = None
    inline: Mapping[str, str] | None = None
    snapshot: str | None = None
    local_inputs: Mapping[str, LocalInput] = field(default_factory=dict)
    name: str | None = None
    compute: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return str(self.spec["command"]["command"])


_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


def check_name(name: str, field_name: str, where: str = "") -> str:
    """A run's name; raises BadInput on one that Kubernetes would refuse."""
    if _NAME.match(name) and len(name) <= 63:
        return name
    fixed = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "train"
    raise BadInput(
        field_name,
        f"{shown(name)} is not a name; use at most 63 lower-case letters, digits and dashes",
        f"for example {fixed}",
        where,
    )


def shown(value: Any) -> str:
    """A value inside a message: quoted, and cut when long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")
MAX_TIMEOUT = 31_536_000


def seconds(value: Any, field_name: str, where: str = "") -> int:
    """Seconds from `90`, `90s`, `30m`, `2h`, `1d12h`; raises BadInput, also outside of 1 second to one year."""
    found: int | None = None
    if (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and re.match(r"-?\d+\Z", value)
    ):
        found = int(value)
    elif isinstance(value, str) and value and (match := _DURATION.match(value)):
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        found = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if found is None:
        raise BadInput(
            field_name, f"{shown(value)} is not a duration", "write seconds (3600), or 90s, 30m, 2h, 1d", where
        )
    if not 1 <= found <= MAX_TIMEOUT:
        raise BadInput(
            field_name, f"{shown(value)} is out of range", f"write 1 to {MAX_TIMEOUT} seconds (one year)", where
        )
    return found
