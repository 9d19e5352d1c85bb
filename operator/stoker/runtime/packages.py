"""Does this Python have the packages that a job's `pip` list names? Asked before the command, answered by name.

A small part of PEP 508 and PEP 440 is read here, with no `packaging` at hand: name, extras, version clauses and the
environment markers' presence. What cannot be judged is reported as such, never taken as satisfied.
"""

from __future__ import annotations

import json
import re
import sys
from typing import List, NamedTuple, Optional, Tuple

_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*"
    r"(?:\((?P<inside>[^)]*)\)|(?P<clauses>[^;@]*))?\s*(?P<url>@[^;]*)?(?:;(?P<marker>.*))?\Z"
)
_CLAUSE = re.compile(r"\s*(===|==|~=|!=|<=|>=|<|>)\s*([^\s,]+)\s*\Z")
_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<pre_n>\d*))?"
    r"(?P<post>-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?(?P<dev>[-_.]?dev[-_.]?\d*)?(?P<local>\+[a-z0-9._-]+)?\Z",
    re.IGNORECASE,
)
_PRE = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}


class Version(NamedTuple):
    """A version in PEP 440's order. release has no trailing zeros; stage orders dev < a < b < rc < final < post."""

    epoch: int
    release: Tuple[int, ...]
    stage: Tuple[Tuple[str, int], int, int]

    @property
    def is_early(self) -> bool:
        """A pre-release or a development release."""
        return self.stage[0] != ("z", 0) or self.stage[2] != _LATE


_LATE = 1 << 60


def version(text: str) -> Optional[Version]:
    """The version in a text, without its local part; None when it has no form of PEP 440."""
    match = _VERSION.match(text.strip())
    if match is None:
        return None
    release = [int(part) for part in match.group("release").split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    pre, post, dev = match.group("pre"), match.group("post"), match.group("dev")
    if pre:
        before = (_PRE.get(pre.lower(), pre.lower()), int(match.group("pre_n") or 0))
    elif dev and not post:
        before = ("", 0)
    else:
        before = ("z", 0)
    return Version(
        int(match.group("epoch") or 0),
        tuple(release),
        (before, _number(post) if post else -1, _number(dev) if dev else _LATE),
    )


def satisfies(installed: str, clauses: str) -> bool:
    """Whether a version meets comma-separated clauses (`>=1.2,<2`); raises ValueError when one cannot be read.

    Installed pre-releases count: the question is whether the package is there, not which one to choose.
    """
    have = version(installed)
    for clause in filter(None, (part.strip() for part in clauses.split(","))):
        match = _CLAUSE.match(clause)
        if match is None:
            raise ValueError("%r is not a version clause" % clause)
        if not _meets(installed, have, match.group(1), match.group(2)):
            return False
    return True


def missing(requirements: List[str]) -> List[str]:
    """One sentence for each requirement that this interpreter does not meet."""
    problems = (_problem(requirement) for requirement in requirements)
    return [problem for problem in problems if problem]


def _problem(requirement: str) -> Optional[str]:
    import importlib.metadata

    text = requirement.split(" #", 1)[0].strip()
    if not text or text.startswith("#"):
        return None
    match = _REQUIREMENT.match(text)
    if match is None or text.startswith("-"):
        return "%s (cannot be checked in an image: give a name and versions)" % text
    marker = match.group("marker")
    if marker is not None and not _applies(marker):
        return None
    name, clauses = match.group("name"), match.group("inside") or match.group("clauses") or ""
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return text
    try:
        met = satisfies(installed or "", clauses)
    except ValueError as error:
        return "%s (%s)" % (text, error)
    return None if met else "%s (the image has %s)" % (text, installed)


_MARKER = re.compile(r"""\s*([a-z_]+)\s*(==|!=|<=|>=|<|>)\s*['"]([^'"]*)['"]\s*\Z""")


def _applies(marker: str) -> bool:
    """Whether a marker of plain comparisons joined by `and` holds; one that is not of that form counts as holding."""
    import os
    import platform

    values = {
        "python_version": "%d.%d" % sys.version_info[:2],
        "python_full_version": platform.python_version(),
        "sys_platform": sys.platform,
        "platform_system": platform.system(),
        "platform_machine": platform.machine(),
        "os_name": os.name,
        "implementation_name": sys.implementation.name,
        "platform_python_implementation": platform.python_implementation(),
    }
    for part in re.split(r"\band\b", marker):
        match = _MARKER.match(part)
        if match is None or match.group(1) not in values:
            return True
        have, operator, wanted = values[match.group(1)], match.group(2), match.group(3)
        if match.group(1).startswith("python_"):
            if not _meets(have, version(have), operator, wanted):
                return False
        elif (have == wanted) != (operator == "=="):
            return False
    return True


def _meets(installed: str, have: Optional[Version], operator: str, wanted: str) -> bool:
    if operator == "===":
        return installed.lower() == wanted.lower()
    prefix = wanted.endswith(".*")
    bound = version(wanted[:-2] if prefix else wanted)
    if bound is None or (prefix and operator not in ("==", "!=")):
        raise ValueError("%r is not a version that %s takes" % (wanted, operator))
    if have is None:
        return False
    if operator in ("==", "!="):
        if prefix:
            return _starts_with(have, bound, wanted[:-2]) == (operator == "==")
        equal = have == bound and ("+" not in wanted or installed.lower() == wanted.lower())
        return equal == (operator == "==")
    if operator == "~=":
        parts = _release_text(wanted).split(".")
        if len(parts) < 2:
            raise ValueError("~=%s needs two numbers at least" % wanted)
        stem = ".".join(parts[:-1])
        upper = version(stem)
        assert upper is not None
        return have >= bound and _starts_with(have, upper._replace(epoch=bound.epoch), stem)
    if operator in ("<=", ">="):
        return have <= bound if operator == "<=" else have >= bound
    return _strictly(have, bound, operator)


def _strictly(have: Version, bound: Version, operator: str) -> bool:
    """`<` and `>` as PEP 440 has them: 2.0rc1 is not `< 2.0`, 1.0.post1 is not `> 1.0`, and 1.0a1.post1 is not `> 1.0a1`."""
    pre, post, dev = bound.stage
    if operator == "<":
        if bound.is_early:
            return have < bound
        return have < bound._replace(stage=(pre, post, 0) if post >= 0 else (("", 0), -1, 0))
    # The bound's own post-releases share its release and its pre-release; a post or dev bound has none of that kind.
    family = (have.epoch, have.release, have.stage[0]) == (bound.epoch, bound.release, pre)
    return have > bound and not (family and post < 0 and dev == _LATE)


def _starts_with(have: Version, bound: Version, text: str) -> bool:
    wanted = [int(part) for part in _release_text(text).split(".")]
    padded = list(have.release) + [0] * len(wanted)
    return have.epoch == bound.epoch and padded[: len(wanted)] == wanted


def _release_text(text: str) -> str:
    match = _VERSION.match(text)
    return match.group("release") if match else text


def _number(text: str) -> int:
    digits = re.sub(r"\D", "", text)
    return int(digits) if digits else 0


def main(arguments: List[str]) -> int:
    """`check-packages JSON_LIST`: print a JSON list of what is missing."""
    print(json.dumps(missing(json.loads(arguments[0]))))
    return 0
