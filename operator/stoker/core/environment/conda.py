"""Conda files: channels and match specs in one canonical form, their pip section on the side."""

import re
from collections.abc import Mapping
from typing import Any

from stoker.core import yaml12
from stoker.core.environment import secrets
from stoker.core.environment.pip import Files, Pip, logical_lines
from stoker.core.environment.problems import Place, Problem
from stoker.errors import BadInput, did_you_mean

#: Used where a file names no channel.
DEFAULT_CHANNEL = "conda-forge"
#: Where a channel's name leads to.
ALIAS = "https://conda.anaconda.org/"

#: An exported environment of a thousand packages has a fifth of it.
MOST_CHARACTERS = 262144

_KEYS = ("name", "prefix", "channels", "dependencies")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*\Z")
_PLAIN_BUILD = re.compile(r"[A-Za-z0-9_.*]+\Z")
_MEMBER = re.compile(r'\s*([a-z0-9_]+)=("(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|\Z)')
_VARIABLES = "set variables as spec.command.env of the job, or with ENV in dockerSteps"


class Conda:
    """What a conda definition says. channels and dependencies: canonical."""

    def __init__(self) -> None:
        self.channels: list[str] = []
        self.dependencies: list[str] = []
        self.problems: list[Problem] = []
        self._pins: dict[str, tuple[str, Place]] = {}

    def canonical(self) -> dict[str, Any] | None:
        """None without a dependency: then channels mean nothing."""
        if not self.dependencies:
            return None
        return {"channels": list(self.channels) or [DEFAULT_CHANNEL], "dependencies": sorted(set(self.dependencies))}

    def take_text(self, text: str, place: Place, files: Files, pip: Pip) -> None:
        """A conda file's text."""
        if len(text) > MOST_CHARACTERS:
            message = f"the conda file has more than {MOST_CHARACTERS} characters"
            self.problems.append(place.problem(message, "list what you need by name; the lock has the rest"))
            return
        try:
            documents = yaml12.parse(text, "")
        except BadInput as error:
            # `:line:column`, for the text has no file of its own; nothing for one that is nested too deeply.
            line = int(error.where.split(":")[1]) if error.where else 0
            front = f"{error.field} " if error.field else ""
            self.problems.append(place.on(line).problem(front + error.message, error.fix))
            return
        if len(documents) != 1:
            said = "is empty" if not documents else f"has {len(documents)} YAML documents"
            self.problems.append(place.problem(f"the conda file {said}", "write one mapping with dependencies"))
            return
        lines = documents[0].lines
        self.take(documents[0].value, Place(place.path, place.file, 1, lines), files, pip)

    def take(self, value: Any, place: Place, files: Files, pip: Pip) -> None:
        """A conda file's mapping."""
        if not isinstance(value, Mapping):
            self.problems.append(place.problem("this is not a conda file's mapping", "write channels and dependencies"))
            return
        for key in value:
            if key == "variables":
                self.problems.append(place.below(key).problem("variables are not set from a conda file", _VARIABLES))
            elif key not in _KEYS:
                fix = did_you_mean(str(key), list(_KEYS))
                self.problems.append(place.below(str(key)).problem("unknown key of a conda file", fix))
        self._channels(value.get("channels"), place.below("channels"))
        dependencies = value.get("dependencies")
        if not isinstance(dependencies, list | tuple):
            said = "is missing" if dependencies is None else "is not a list"
            self.problems.append(place.below("dependencies").problem(said, "list packages, such as - numpy=1.26"))
            return
        for number, item in enumerate(dependencies):
            here = place.below("dependencies", number)
            if isinstance(item, Mapping) and set(item) == {"pip"}:
                self._pip(item["pip"], here.below("pip"), files, pip)
            elif isinstance(item, str):
                self._dependency(item, here)
            else:
                self.problems.append(
                    here.problem(f"{_shown(item)} is not a package", "write name=version, or pip: and a list")
                )

    def _channels(self, channels: Any, place: Place) -> None:
        if channels is None:
            return
        if not isinstance(channels, list | tuple):
            self.problems.append(place.problem("channels is not a list", "write - conda-forge"))
            return
        for number, channel in enumerate(channels):
            here = place.below(number)
            found = channel_of(channel, here)
            if isinstance(found, Problem):
                self.problems.append(found)
            elif found and found not in self.channels:
                self.channels.append(found)

    def _pip(self, items: Any, place: Place, files: Files, pip: Pip) -> None:
        if not isinstance(items, list | tuple):
            self.problems.append(place.problem("the pip section is not a list", "write - package==1.2, one per line"))
            return
        for number, item in enumerate(items):
            here = place.below(number)
            if not isinstance(item, str):
                self.problems.append(here.problem(f"{_shown(item)} is not a package", "write name==1.2"))
                continue
            for line, _ in logical_lines(item):
                pip.take(line, here, files)

    def _dependency(self, text: str, place: Place) -> None:
        found = match_spec(text, place)
        if isinstance(found, Problem):
            self.problems.append(found)
            return
        name, version, channel, spec = found
        if channel and channel not in (self.channels or [DEFAULT_CHANNEL]):
            listed = ", ".join(self.channels or [DEFAULT_CHANNEL])
            message = f"channel {channel} is not in channels ({listed})"
            self.problems.append(place.problem(message, f"add - {channel} to channels"))
        if version:
            other, elsewhere = self._pins.setdefault(name, (version, place))
            if _disjoint(version, other):
                message = f"{name} {version} and {name} {other} ({elsewhere}) leave no version"
                self.problems.append(place.problem(message, "keep one of the two"))
        self.dependencies.append(spec)


def channel_of(value: Any, place: Place) -> str | Problem | None:
    """A channel's one name: without credentials and trailing slash, as a name where it lies on anaconda.org. None for
    `nodefaults`, which names none."""
    if not isinstance(value, str) or not value.strip():
        return place.problem(f"{_shown(value)} is not a channel", "write a name such as conda-forge, or a URL")
    if told := secrets.in_text(value):
        fix = "write the URL without it; credentials belong into the Secret of the Workspace's mirrors.secretRef"
        return place.problem(f"the channel has {told}", fix)
    channel = without_credentials(value)
    if channel == "nodefaults":
        return None
    if "://" in channel and not channel.startswith("file:"):
        if re.match(r"https?://[^/\s]+(/\S*)?\Z", channel):
            return channel
    elif _CHANNEL.match(channel) and not channel.startswith("file:"):
        return channel
    if channel.startswith((".", "/", "~", "file:")):
        return place.problem(
            f"channel {_shown(channel)} is a folder on a machine", "write a name or an http or https URL"
        )
    return place.problem(
        f"{_shown(channel)} is not a channel", "write a name such as conda-forge, or an http or https URL"
    )


def without_credentials(channel: str) -> str:
    """`https://me:pw@conda.anaconda.org/t/TOKEN/forge/` is `forge`."""
    return secrets.without(channel.strip()).rstrip("/").removeprefix(ALIAS)


def match_spec(text: str, place: Place) -> tuple[str, str, str, str] | Problem:
    """A dependency as (name, version, channel, canonical text): everyday forms mean one thing, clauses of a version are
    sorted."""
    # It costs a tenth of a second to import, and most lists have no conda package.
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    if told := secrets.in_text(text):
        return place.problem(f"the dependency has {told}", "write it without; credentials belong into a Secret")
    if text.lstrip().startswith((".", "/", "~", "file:")) or "file://" in text:
        return place.problem(f"{_shown(text)} is a path on a machine", "name a package of a channel")
    try:
        spec = MatchSpec(text, strict=False, extras=False, conditionals=False, flags=False)
    except InvalidMatchSpecError as error:
        reason = str(error).splitlines()[0]
        return place.problem(f"{_shown(text)} is not a package ({reason})", _how_to_write(text))
    name, _, inside = spec.to_canonical_string().partition("[")
    inside = inside.removesuffix("]")
    if _MEMBER.sub("", inside):
        return place.problem(f"{_shown(text)} has a member that is not known here", "write name=version=build")
    members = {key: value.strip('"') for key, value in _MEMBER.findall(inside)}
    if "version" in members:
        members["version"] = sorted_version(members["version"])
    if "channel" in members:
        members["channel"] = without_credentials(members["channel"])
    version, channel = members.get("version", ""), members.get("channel", "")
    return name.lower(), version, channel, _written(name.lower(), members)


def sorted_version(version: str) -> str:
    """A version with its clauses in order: `,` (and) binds closer than `|` (or), and parentheses closer than both."""
    either = _split(version, "|")
    if len(either) > 1:
        return "|".join(sorted(set(map(sorted_version, either))))
    both = _split(version, ",")
    if len(both) > 1:
        return ",".join(sorted(set(map(sorted_version, both))))
    return f"({sorted_version(version[1:-1])})" if version.startswith("(") and version.endswith(")") else version


def _split(text: str, separator: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _written(name: str, members: Mapping[str, str]) -> str:
    """`forge::numpy >=1,<2 py_0` where that says all, else with brackets."""
    channel, build = members.get("channel", ""), members.get("build", "")
    plain = members.keys() <= {"version", "build", "channel"} and "://" not in channel
    if plain and (not build or _PLAIN_BUILD.match(build)):
        front = f"{channel}::" if channel else ""
        version = members.get("version", "*" if build else "")
        return " ".join(part for part in (front + name, version, build) if part)
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(members.items()))
    return f"{name}[{inside}]"


def _disjoint(one: str, other: str) -> bool:
    """Whether two versions that each name one release (`==1.2`, `1.2.*`) can never both hold."""
    first, second = _release(one), _release(other)
    if first is None or second is None:
        return False
    if one.startswith("==") and other.startswith("=="):
        return first != second
    # 3.11 and 3.11.4 may be one, as may 3.11 and 3.11.0: that is for the solver.
    shorter, longer = sorted((first, second), key=len)
    return longer[: len(shorter)] != shorter


def _release(version: str) -> list[str] | None:
    match = re.match(r"(?:==)?([0-9]+(?:\.[0-9]+)*)(\.\*)?\Z", version)
    if match is None or version.startswith("==") == bool(match[2]):
        return None
    return match[1].split(".")


def _how_to_write(text: str) -> str:
    if "~=" in text or "===" in text or "@" in text:
        return "write name=1.2 or name>=1.2,<2; what only PyPI has belongs into the pip section"
    return "write name, name=1.2 or name>=1.2,<2"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
