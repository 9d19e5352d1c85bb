"""A run as it was asked for, before anything was read, hashed or sent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stoker.core.yaml12 import Path as FieldPath
from stoker.errors import BadInput
from stoker.errors import shown as shown

if TYPE_CHECKING:
    from stoker.core.environment.definition import Definition

LOCAL = "local"


@dataclass(frozen=True)
class EnvironmentAsked:
    """What the command runs in, as the user names it.

    kind: `system` (the Python that runs stoker), `name` (an Environment in the cluster), `packages` (an Environment's spec
    in place), `label` (a reference into Azure ML, in `name`; azureml.labels says what it means here).
    source: what the plan shows: a file's name, `--environment`, `job.yaml`. spec: as a manifest has it, files
    taken in where they are at hand. definition: what the spec means; None where files of the code are still to be read, and
    without the context's digest until the code is listed. folders: of `--find-links FOLDER`, on this machine alone.
    context: the folder on this machine that steps copy from, where a file names it by itself. where: file and line of parts
    of the spec. front: what stands before a field's name in messages.
    """

    kind: Literal["system", "name", "packages", "label"]
    source: str = ""
    name: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    definition: "Definition | None" = None
    folders: tuple[str, ...] = ()
    context: Path | None = None
    where: Mapping[FieldPath, str] = field(default_factory=dict, repr=False, compare=False)
    front: str = field(default="", compare=False)

    @property
    def image(self) -> str:
        """The base as written; empty for none."""
        return str(self.spec.get("image") or "")

    @property
    def conda(self) -> Mapping[str, Any] | None:
        """Channels and match specs in their canonical form."""
        return self.definition.conda if self.definition else None

    @property
    def pip(self) -> tuple[str, ...]:
        """Requirements in their canonical form."""
        return self._of_pip("requirements")

    @property
    def constraints(self) -> tuple[str, ...]:
        """What bounds the versions of packages that others bring in."""
        return self._of_pip("constraints")

    @property
    def options(self) -> tuple[str, ...]:
        """Lines of a requirements file that say where packages come from, and how they are chosen."""
        return (*self._of_pip("index"), *self._of_pip("options"), *(f"--find-links {one}" for one in self.folders))

    @property
    def python(self) -> str:
        """What the conda part says of Python's version, such as `3.11.*`; empty for nothing."""
        for spec in (self.conda or {}).get("dependencies", ()):
            name, _, rest = str(spec).partition(" ")
            if name == "python":
                return rest.partition(" ")[0]
        return ""

    @property
    def conda_packages(self) -> tuple[str, ...]:
        """What conda alone brings: everything but a version of Python, and pip."""
        listed = (self.conda or {}).get("dependencies", ())
        return tuple(one for one in listed if re.split(r"[ \[]", one)[0] not in ("python", "pip"))

    @property
    def steps(self) -> tuple[str, ...]:
        """Docker steps in their canonical form."""
        return self.definition.steps if self.definition else ()

    def _of_pip(self, member: str) -> tuple[str, ...]:
        pip = self.definition.pip if self.definition else None
        return tuple((pip or {}).get(member, ()))


@dataclass(frozen=True)
class LocalInput:
    """An input that lies on this machine. kind: uri_folder or uri_file. digest: what it must be, empty for anything."""

    path: Path
    kind: str
    digest: str = ""


@dataclass(frozen=True)
class Draft:
    """A run as it was asked for.

    spec: a TrainingJob's spec without code, environment, compute and the local inputs. base: what a generated name
    starts with. code: a folder or a single file, None for no code; inline and snapshot: as in a manifest. warnings: what
    will not be as the file says.
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
    warnings: tuple[str, ...] = ()

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
