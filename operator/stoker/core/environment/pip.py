"""Lists of pip's packages: lines of requirements files as PEP 508 has them, in one canonical form.

Names as PEP 503 has them, extras, specifiers and hashes sorted, files of `-r` and `-c` taken in, sources of packages in
order and without credentials. Paths on a machine mean nothing elsewhere and are refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from stoker.core.environment import secrets
from stoker.core.environment.problems import Place, Problem

#: Files in the code by path; None for one that is not there. What is missing here is asked for.
Files = Mapping[str, str | None]

_SOURCES = {
    "-i": "--index-url", "--index-url": "--index-url", "--pypi-url": "--index-url", "--extra-index-url": "--extra-index-url",
    "-f": "--find-links", "--find-links": "--find-links",
}  # fmt: skip
_SWITCHES = ("--no-index", "--pre", "--require-hashes")
_CHOICES = ("--no-binary", "--only-binary")
_INCLUDES = {"-r": False, "--requirement": False, "-c": True, "--constraint": True}
_MOST_DEPTH = 8
#: Lines of one package that are compared with each other; nobody writes more, and each costs a comparison with all.
_MOST_COMPARED = 8
#: `-c numpy<2`: pip takes files only, but a list in a manifest has none beside it.
_IN_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(===|[<>=!~]=|[<>])")
_PER_REQUIREMENT = re.compile(r"\s--(?=[a-z])")
_HASH = re.compile(r"hash[= ](sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z")
_PATH = re.compile(
    r"(?:\.{1,2}(?:[/\\\[]|\Z)|/|~|[A-Za-z]:[\\/]|file:|[^@\s]*\.(?:whl|zip|tar\.gz|tgz|tar\.bz2)\Z)", re.I
)
_VCS = re.compile(r"(git|hg|svn|bzr)\+")
_OWN_CODE = (
    "a package of your own comes from an index, or is copied and installed by dockerSteps with `context`; "
    "modules beside the script need no installing"
)


@dataclass(slots=True)
class Pip:
    """What the lists say. wanted: files of `-r` and `-c` that are not at hand yet."""

    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    index: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    parsed: list[tuple[Requirement, Place]] = field(default_factory=list)
    taken: set[tuple[str, bool]] = field(default_factory=set)

    def canonical(self) -> dict[str, Any] | None:
        """Members that are empty are left out; None without a requirement, for then nothing is installed."""
        if not self.requirements:
            return None
        members = {
            "requirements": sorted(set(self.requirements)),
            "constraints": sorted(set(self.constraints)),
            "index": list(dict.fromkeys(self.index)),
            "options": sorted(set(self.options)),
        }
        return {name: member for name, member in members.items() if member}

    def take(self, line: str, place: Place, files: Files, *, constraint: bool = False, depth: int = 0) -> None:
        """One logical line, without its comment."""
        if line.startswith("-"):
            self._option(line, place, files, constraint=constraint, depth=depth)
            return
        found = _requirement(line, place)
        if isinstance(found, Problem):
            self.problems.append(found)
            return
        requirement, text = found
        if constraint and (requirement.extras or requirement.url):
            self.problems.append(place.problem(f"{line!r} is no constraint", "write a name with versions alone"))
            return
        (self.constraints if constraint else self.requirements).append(text)
        self.parsed.append((requirement, place))

    def take_file(self, path: str, place: Place, files: Files, *, constraint: bool = False, depth: int = 0) -> None:
        """A requirements file in the code, which is asked for if it is not at hand. place: where it is named."""
        if path not in files:
            self.wanted.append(path)
            return
        # Once is enough, also for files that name each other: a second time would say the same.
        if (path, constraint) in self.taken:
            return
        self.taken.add((path, constraint))
        text = files[path]
        if text is None:
            self.problems.append(
                place.problem(f"there is no file {path} in the code", "name a file of the code folder")
            )
            return
        named = Place(place.path, path)
        for line, number in logical_lines(text):
            self.take(line, named.on(number), files, constraint=constraint, depth=depth)

    def _option(self, line: str, place: Place, files: Files, *, constraint: bool, depth: int) -> None:
        match = re.match(r"(--[a-z-]+|-[A-Za-z])(?:[= ]\s*|(?=\S)|\Z)", line)
        word, value = (match[1], line[match.end() :].strip().strip("'\"")) if match else (line, "")
        problem = None
        if word in _INCLUDES:
            if _INCLUDES[word] and _IN_PLACE.match(value):
                self.take(value, place, files, constraint=True, depth=depth)
                return
            problem = self._include(word, value, place, files, constraint=constraint, depth=depth)
        elif word in _SOURCES:
            problem = self._source(_SOURCES[word], value, place)
        elif word in _SWITCHES:
            self.options.append(word)
        elif word in _CHOICES and value:
            names = sorted({name.strip() for name in value.split(",")})
            self.options += [f"{word} {name if name[:1] == ':' else canonicalize_name(name)}" for name in names]
        elif word in ("-e", "--editable"):
            problem = place.problem("an editable install is a folder on your machine", _OWN_CODE)
        elif word == "--trusted-host":
            fix = "remove it; an index without a proper certificate is a mirror of the Workspace"
            problem = place.problem("--trusted-host is not supported", fix)
        else:
            known = ", ".join((*dict.fromkeys(_SOURCES.values()), *_SWITCHES, *_CHOICES, "-r", "-c"))
            problem = place.problem(f"the option {word} is not supported", f"remove it; known: {known}")
        if problem is not None:
            self.problems.append(problem)

    def _include(
        self, word: str, value: str, place: Place, files: Files, *, constraint: bool, depth: int
    ) -> Problem | None:
        if _VCS.match(value) or "://" in value:
            return place.problem(f"{word} names a URL, which may say something else tomorrow", "copy it into the code")
        path = resolved(value, place.file)
        if path is None:
            return place.problem(
                f"{word} {value}: the path leaves the code folder", "move the file into the code folder"
            )
        if depth >= _MOST_DEPTH:
            return place.problem(f"{word} {value}: files name files {_MOST_DEPTH} deep", "name them in one file")
        self.take_file(path, place, files, constraint=constraint or _INCLUDES[word], depth=depth + 1)
        return None

    def _source(self, option: str, url: str, place: Place) -> Problem | None:
        if told := secrets.in_text(url):
            return place.problem(
                f"{option} has {told}",
                "write the URL without it; credentials belong into the Secret of the Workspace's mirrors.secretRef",
            )
        if "$" in url:
            return place.problem(f"{option} has a variable, which nobody replaces", "write the URL as it is")
        if not re.match(r"https?://[^/\s]+(/\S*)?\Z", url):
            return place.problem(
                f"{option} {url or 'without a value'} is not an http or https URL", "write https://host/simple"
            )
        self.index.append(f"{option} {secrets.without(url).rstrip('/')}")
        return None


def lines(pip: Mapping[str, Any]) -> list[str]:
    """A canonical list as lines that read as it again."""
    bounds = (f"-c {line}" for line in pip.get("constraints", ()))
    return [*pip.get("index", ()), *pip.get("options", ()), *pip.get("requirements", ()), *bounds]


def logical_lines(text: str) -> Iterator[tuple[str, int]]:
    """The lines of a requirements file with their numbers: continued lines joined, comments and empty ones left out."""
    kept, start = "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        start = start or number
        # A comment line inside a continuation ends nothing; a backslash in a comment continues nothing.
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            kept += raw[:-1].strip(" ") + " " if kept else raw[:-1] + " "
            continue
        line = re.sub(r"(^|\s+)#.*\Z", "", kept + raw).strip()
        if line:
            yield line, start
        kept, start = "", 0
    if kept.strip():
        yield kept.strip(), start


def resolved(path: str, beside: str) -> str | None:
    """A path as a file names it, relative to the code folder; None if it leaves it. beside: the file that names it."""
    if not path or path.startswith(("/", "~")) or "\\" in path or re.match(r"[A-Za-z]:", path):
        return None
    parts: list[str] = []
    for part in (PurePosixPath(beside).parent / path).parts:
        if part == ".." and not parts:
            return None
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts) or None


def conflicts(parsed: Iterable[tuple[Requirement, Place]]) -> Iterator[Problem]:
    """Pins of one package that no version can meet, told at the later of the two."""
    seen: dict[str, list[tuple[Requirement, Place]]] = {}
    for requirement, place in parsed:
        name = canonicalize_name(requirement.name)
        for other, elsewhere in seen.setdefault(name, []):
            if (
                requirement.marker is None
                and other.marker is None
                and _disjoint(requirement.specifier, other.specifier)
            ):
                message = f"{name}{requirement.specifier} and {name}{other.specifier} ({elsewhere}) leave no version"
                yield place.problem(message, "keep one of the two")
                break
        if len(seen[name]) < _MOST_COMPARED:
            seen[name].append((requirement, place))


def _disjoint(one: SpecifierSet, other: SpecifierSet) -> bool:
    for pins, rest in ((one, other), (other, one)):
        for pin in pins:
            if pin.operator == "==" and not pin.version.endswith(".*"):
                return not rest.contains(pin.version, prereleases=True)
    return False


def _requirement(line: str, place: Place) -> tuple[Requirement, str] | Problem:
    text, *options = _PER_REQUIREMENT.split(line)
    hashes = []
    for option in options:
        match = _HASH.match(option.strip())
        if match is None:
            return place.problem(
                f"--{option.strip()[:40]} is not supported", "keep --hash=sha256:<64 hex digits> alone"
            )
        hashes.append(match[1])
    text = _named(text.strip())
    if told := secrets.in_text(text):
        fix = "write the URL without it; credentials belong into the Secret of the Workspace's mirrors.secretRef"
        return place.problem(f"the requirement has {told}", fix)
    if "${" in text:
        return place.problem("the requirement has a variable, which nobody replaces", "write it out")
    if _PATH.match(text):
        return place.problem(f"{text!r} is a path on a machine", _OWN_CODE)
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        return place.problem(f"{text[:80]!r} is not a package ({str(error).splitlines()[0]})", _how_to_write(text))
    if requirement.url is not None and not re.match(r"(?:(git|hg|svn|bzr)\+)?(https?|ssh)://", requirement.url):
        return place.problem(f"{requirement.url!r} is a path on a machine", _OWN_CODE)
    return requirement, _canonical(requirement, hashes)


def _named(text: str) -> str:
    """`name @ URL` for a bare URL that has the name in it; other texts as they are."""
    if not re.match(r"(?:(?:git|hg|svn|bzr)\+)?[a-z]+://", text):
        return text
    egg = re.search(r"#(?:.*&)?egg=([A-Za-z0-9._-]+)(?:&|\Z)", text)
    if egg:
        rest = re.sub(r"&?egg=[^&]*", "", text.partition("#")[2]).strip("&")
        return f"{egg[1]} @ {text.partition('#')[0]}" + (f"#{rest}" if rest else "")
    try:
        return f"{parse_wheel_filename(unquote(urlsplit(text).path.rpartition('/')[2]))[0]} @ {text}"
    except (InvalidWheelFilename, ValueError):
        return text


def _how_to_write(text: str) -> str:
    if single := re.match(r"([A-Za-z0-9._-]+)\s*=\s*([0-9][^=\s]*)\Z", text):
        return f"write {single[1]}=={single[2]}: one `=` is conda's form"
    if "://" in text:
        return "write it as `name @ URL`"
    return "write a package as name==1.2"


def _canonical(requirement: Requirement, hashes: list[str]) -> str:
    text = str(canonicalize_name(requirement.name))
    if requirement.extras:
        text += f"[{','.join(sorted(map(canonicalize_name, requirement.extras)))}]"
    if requirement.url is not None:
        text += f" @ {secrets.without(requirement.url)}"
    else:
        text += ",".join(sorted(map(str, requirement.specifier)))
    if requirement.marker is not None:
        text += f" ; {requirement.marker}"
    return text + "".join(f" --hash={digest}" for digest in sorted(set(hashes)))
