"""Which images, layers and records a registry of environments need not keep any longer, and why.

What hangs together stays or goes together: an image with the records that name it, an index with its platforms' images.
Such a unit stays while anything names one of its keys or digests, while it has a tag that is not Stoker's, and for a time
after its last use. The image of docker steps stays while an image that stays rests on its layers, a package while an image
that stays has its layer, and papers (lists under `sha256-<hex>`) while what they are about stays. Where the last use is not
known it is counted from the day on which this was noticed: `Plan.marks`.

While anyone may be about to use what a registry has, or it cannot be told who does, nothing goes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

DAY = 86_400.0
#: Where neither a person nor the Workspace says it.
KEEP_DAYS = 30.0
#: Of the repositories below a registry's `host/path`.
ENVIRONMENTS, PACKAGES = "environments", "packages"

_OURS = re.compile(r"(?P<kind>spec|lock|steps|pkg|probe)-[a-z2-7]{32}\Z")
_PAPERS = re.compile(r"sha256-(?P<hex>[0-9a-f]{64})(?:\.[A-Za-z0-9._-]+)?\Z")
#: Why something stays whose last use is counted from now.
NOT_KNOWN = "nothing names it; its last use is not known, and is counted from now"
_KINDS = {"lock": "image", "spec": "record", "steps": "steps", "pkg": "package", "probe": "probe"}
#: In the order of rows, and of removal: what images rest on goes after them.
KINDS = ("record", "image", "other", "papers", "steps", "package", "probe")
#: Of several kinds of one unit the first counts.
_STRONGEST = ("other", "image", "steps", "package", "record", "probe", "papers")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest of a repository. blobs: digest -> bytes, of its config and layers. layers: their digests in order.
    names: digests of manifests of the same repository: the image of a record, the images of an index. keys: of a record, in hex."""

    repository: str
    digest: str
    tags: tuple[str, ...] = ()
    blobs: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Needs:
    """named: a key or digest in hex -> who names it. unsettled: who may be looking an image up, or making one, right now."""

    named: Mapping[str, str] = field(default_factory=dict)
    unsettled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one unit. digests: in the order in which they are removed. size: bytes of its blobs, shared ones
    too. last_used: seconds since the epoch; None where it is not known. papers: digests that go with it."""

    repository: str
    kind: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    last_used: float | None
    goes: bool
    reason: str
    papers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """verdicts: every unit, what goes first. marks: digests whose last use is counted from now. size: bytes that nothing
    that stays names. held: why nothing goes, empty when it may."""

    verdicts: tuple[Verdict, ...] = ()
    marks: tuple[str, ...] = ()
    size: int = 0
    held: str = ""

    @property
    def going(self) -> tuple[Verdict, ...]:
        return tuple(one for one in self.verdicts if one.goes)


@dataclass(frozen=True, slots=True)
class Report:
    """What was removed. at: seconds since the epoch. images: tags. units: how many of all kinds. size: bytes that nothing else
    had; 0 where that is not known."""

    at: float
    images: tuple[str, ...] = ()
    units: int = 0
    size: int = 0


def plan(stock: Iterable[Manifest], needs: Needs, used: Mapping[str, float], grace: float, now: float) -> Plan:
    """What goes of a registry's manifests. used: a key or digest in hex -> its last use as far as it is known (seconds since
    the epoch). grace: seconds after the last use."""
    judged = _judged(tuple(stock), needs, used, grace, now)
    if held := _held(needs):
        judged = [(unit, replace(verdict, goes=False)) for unit, verdict in judged]
    marks = {digest for _, verdict in judged if verdict.reason == NOT_KNOWN for digest in verdict.digests}
    verdicts = sorted((verdict for _, verdict in judged), key=_order)
    return Plan(tuple(verdicts), () if held else tuple(sorted(marks)), _freed(judged), held)


def removal_order(going: Iterable[Verdict]) -> list[Verdict]:
    """What images rest on goes after them, so that a removal that is cut off leaves none without."""
    return sorted(going, key=lambda one: (KINDS.index(one.kind), one.digests))


def kind_of(tags: Iterable[str]) -> str:
    """What a manifest is, by its tags: one of KINDS, or `part` for one without a tag."""
    kinds = {_kind(tag) for tag in tags}
    return next((kind for kind in _STRONGEST if kind in kinds), "part")


def subjects(tags: Iterable[str]) -> frozenset[str]:
    """The digests that papers are about, by their tags."""
    found = (_PAPERS.match(tag) for tag in tags)
    return frozenset(f"sha256:{match['hex']}" for match in found if match is not None)


def _kind(tag: str) -> str:
    match = _OURS.match(tag)
    if match is not None:
        return _KINDS[match["kind"]]
    return "papers" if _PAPERS.match(tag) else "other"


Unit = tuple[Manifest, ...]
Judged = tuple[Unit, Verdict]


class _Judge:
    """Says of one unit what becomes of it."""

    def __init__(self, needs: Needs, used: Mapping[str, float], grace: float, now: float) -> None:
        self._needs, self._used, self._grace, self._now = needs, used, grace, now

    def verdict(self, unit: Unit, *, stays: str = "", goes: str = "", used: float | None = None) -> Verdict:
        """stays, goes: why it does, by what became of others. used: the last use that follows from others."""
        kind, tags = _unit_kind(unit), tuple(sorted(tag for one in unit for tag in one.tags))
        known = [self._used[word] for word in _words(unit) if word in self._used]
        last = max([*known, *([used] if used is not None else [])], default=None)
        kept = self._named(unit) or _foreign(tags) or stays
        removed, reason = (False, kept) if kept else (True, goes) if goes else self._by_age(last)
        sizes = {digest: size for one in unit for digest, size in one.blobs.items()}
        return Verdict(
            repository=unit[0].repository, kind=kind, tags=tags, size=sum(sizes.values()), last_used=last,
            digests=tuple(one.digest for one in sorted(unit, key=_before)), goes=removed, reason=reason,
        )  # fmt: skip

    def _named(self, unit: Unit) -> str:
        found = sorted({self._needs.named[word] for word in _words(unit) if word in self._needs.named})
        more = f" and {len(found) - 1} more name it" if len(found) > 1 else " names it"
        return found[0] + more if found else ""

    def _by_age(self, last: float | None) -> tuple[bool, str]:
        """Whether it goes, and why or why not."""
        if last is None:
            if self._grace <= 0:
                return True, "nothing names it; its last use is not known"
            return False, NOT_KNOWN
        age = max(0.0, self._now - last)
        if age < self._grace:
            return False, f"nothing names it; last used {_days(age)} ago, {self._grace / DAY:g} days are kept"
        return True, f"nothing names it; last used {_days(age)} ago"


def _judged(
    stock: tuple[Manifest, ...], needs: Needs, used: Mapping[str, float], grace: float, now: float
) -> list[Judged]:
    judge = _Judge(needs, used, grace, now)
    units: dict[str, list[Unit]] = {}
    for unit in _units(one for one in stock if kind_of(one.tags) != "papers"):
        units.setdefault(_unit_kind(unit), []).append(unit)
    judged: list[Judged] = []
    for kind in ("other", "record", "image"):
        judged += [(unit, judge.verdict(unit)) for unit in units.get(kind, ())]
    probe = "says what a base holds, in a few bytes"
    judged += [(unit, judge.verdict(unit, stays=probe)) for unit in units.get("probe", ())]
    # In the order in which one rests on the other.
    for kind, fits in (("steps", _all_layers), ("package", _any_layer)):
        images = [pair for pair in judged if pair[0][0].repository == ENVIRONMENTS]
        layered = _by_layer(images)
        for unit in units.get(kind, ()):
            above = [images[at] for at in sorted(fits(unit, layered))]
            judged.append((unit, _resting(judge, unit, above)))
    return judged + _papers(stock, judged, judge)


def _by_layer(images: list[Judged]) -> dict[str, set[int]]:
    """Layer -> places in the list of those that have it."""
    found: dict[str, set[int]] = {}
    for at, (unit, _) in enumerate(images):
        for one in unit:
            for layer in one.layers:
                found.setdefault(layer, set()).add(at)
    return found


def _all_layers(unit: Unit, layered: Mapping[str, set[int]]) -> set[int]:
    """Who may have been made of one of the unit's images: who has all of its layers."""
    found: set[int] = set()
    for one in unit:
        if one.layers:
            found |= set.intersection(*(layered.get(layer, set()) for layer in one.layers))
    return found


def _any_layer(unit: Unit, layered: Mapping[str, set[int]]) -> set[int]:
    return {at for one in unit for layer in one.layers for at in layered.get(layer, ())}


def _resting(judge: _Judge, unit: Unit, above: list[Judged]) -> Verdict:
    """Of what images rest on. Their last use is its own too, also of those that go."""
    stays = next((verdict for _, verdict in above if not verdict.goes), None)
    used = max((verdict.last_used for _, verdict in above if verdict.last_used is not None), default=None)
    return judge.verdict(unit, stays=f"{_name(stays)} rests on it" if stays is not None else "", used=used)


def _papers(stock: tuple[Manifest, ...], judged: list[Judged], judge: _Judge) -> list[Judged]:
    """Lists of papers, each with what it is about. A list that says the same of several has one digest and all their tags."""
    found = {(verdict.repository, digest): verdict for _, verdict in judged for digest in verdict.digests}
    made: list[Judged] = []
    for one in stock:
        if kind_of(one.tags) != "papers":
            continue
        about = [found.get((one.repository, digest)) for digest in sorted(subjects(one.tags))]
        kept = next((verdict for verdict in about if verdict is not None and not verdict.goes), None)
        stays = f"{_name(kept)}, which it is about, stays" if kept is not None else ""
        made.append(((one,), judge.verdict((one,), stays=stays, goes="what it is about goes" if all(about) else "")))
    return made


def _units(stock: Iterable[Manifest]) -> Iterator[Unit]:
    """What hangs together by names, in one repository."""
    found = {(one.repository, one.digest): one for one in stock}
    root = {place: place for place in found}

    def top(place: tuple[str, str]) -> tuple[str, str]:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for (repository, digest), one in found.items():
        for named in one.names:
            if (repository, named) in found:
                root[top((repository, named))] = top((repository, digest))
    units: dict[tuple[str, str], list[Manifest]] = {}
    for place, one in sorted(found.items()):
        units.setdefault(top(place), []).append(one)
    yield from (tuple(unit) for unit in units.values())


def _unit_kind(unit: Unit) -> str:
    kinds = {kind_of(one.tags) for one in unit}
    return next((kind for kind in _STRONGEST if kind in kinds), "other")


def _before(one: Manifest) -> tuple[bool, str]:
    """A record goes before its image, so that nobody finds what is about to go."""
    return not one.names, one.digest


def _words(unit: Unit) -> list[str]:
    """All that a unit may be known by, in hex."""
    digests = (one.digest.removeprefix("sha256:") for one in unit)
    return sorted({*digests, *(key for one in unit for key in one.keys)})


def _foreign(tags: Iterable[str]) -> str:
    tag = next((tag for tag in tags if _kind(tag) == "other"), None)
    return f"its tag {tag} is none of Stoker's" if tag is not None else ""


def _name(verdict: Verdict) -> str:
    return verdict.tags[0] if verdict.tags else verdict.digests[0][:19]


def _held(needs: Needs) -> str:
    if not needs.unsettled:
        return ""
    more = f" and {len(needs.unsettled) - 1} more" if len(needs.unsettled) > 1 else ""
    return f"{needs.unsettled[0]}{more}; what is used is known once that is over"


def _freed(judged: list[Judged]) -> int:
    """Bytes of blobs that only what goes names."""
    kept = {digest for unit, verdict in judged if not verdict.goes for one in unit for digest in one.blobs}
    gone = {
        digest: size for unit, verdict in judged if verdict.goes for one in unit for digest, size in one.blobs.items()
    }
    return sum(size for digest, size in gone.items() if digest not in kept)


def _order(verdict: Verdict) -> tuple[bool, int, tuple[str, ...]]:
    return not verdict.goes, KINDS.index(verdict.kind), verdict.tags


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days"
