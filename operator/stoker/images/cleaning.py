"""Removes from a registry what no job, environment or stored run needs: core.environment.cleaning decides, this looks and does.

Who needs what is read anew right before each deletion. What cannot be read ends it all: nothing is removed on a guess.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from stoker.core.environment import cleaning
from stoker.core.environment.cleaning import ENVIRONMENTS, PACKAGES, Manifest, Needs, Plan, Verdict
from stoker.core.environment.needed import Plain, needs_of
from stoker.images.client import RegistryClient, fallback_tag
from stoker.images.recordnames import IMAGE_DIGEST, LOCK_KEY, RECORD_TYPE, SPEC_KEY
from stoker.images.records import BadRecord
from stoker.images.together import together
from stoker.storage import uses
from stoker.storage.objects import ObjectStore

#: Requests under way at once.
_AT_ONCE = 8
#: Who needs what, read for what jobs do not pull (layers of packages, papers), holds for so long (seconds).
_HOLDS_SECONDS = 5.0
#: What jobs pull, or find: read anew for each.
_PULLED = frozenset(("record", "image", "other"))
#: Signatures of papers, and so on: deeper than anyone nests them.
_MOST_DEPTH = 8

#: Reads every object of cleaning's kinds, in all namespaces; raises what its client raises.
Objects = Callable[[], Awaitable[Mapping[str, Sequence[Plain]]]]
#: Told of each unit as it has gone, and of each that stays after all with the reason.
Told = Callable[[Verdict, str], None]


@dataclass(frozen=True, slots=True)
class Look:
    """What a registry holds, and what was known of its use, at a moment (seconds since the epoch)."""

    stock: tuple[Manifest, ...]
    used: Mapping[str, float]
    runs: Mapping[str, frozenset[str]]
    at: float


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed. stays: units that were to go and stay after all, each with why. held: why it ended early, empty
    when it did not."""

    removed: tuple[Verdict, ...] = ()
    stays: tuple[tuple[Verdict, str], ...] = ()
    held: str = ""


class Cleaning:
    """Of one registry. url: its `host/path`. stores: of the namespaces that use it, by name; the first is where last uses are
    noted. grace: seconds after the last use. clock: seconds since the epoch."""

    def __init__(
        self, client: RegistryClient, url: str, objects: Objects, stores: Mapping[str, ObjectStore],
        grace: float = cleaning.KEEP_DAYS * cleaning.DAY, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._client = client
        self._url = url.rstrip("/")
        self._objects = objects
        self._stores = dict(stores)
        self._store = next(iter(self._stores.values()))
        self._grace = grace
        self._clock = clock
        self._needs = Needs()
        #: The newest plan, of which look, and when its needs were read (by the monotonic clock).
        self._newest: tuple[Look, Plan, float] | None = None

    async def look(self) -> Look:
        """Raises RegistryError and StoreError."""
        stock = await take_stock(self._client, self._url)
        used: dict[str, float] = {}
        runs: dict[str, frozenset[str]] = {}
        for store in self._stores.values():
            for word, at in (await uses.last_uses(store)).items():
                used[word] = max(at, used.get(word, at))
            runs |= await uses.words_of_runs(store)
        return Look(stock, used, runs, self._clock())

    async def plan(self, look: Look) -> Plan:
        """What goes, with its papers. Raises what `objects` raises, and RegistryError."""
        found = await self._plan(look, 0.0)
        keeps = {digest for one in found.verdicts if not one.goes for digest in one.digests}
        going = {(one.repository, digest) for one in found.going for digest in one.digests}
        slots = asyncio.Semaphore(_AT_ONCE)

        async def with_papers(verdict: Verdict) -> Verdict:
            if not verdict.goes or verdict.repository != ENVIRONMENTS:
                return verdict
            place = self._place(verdict.repository)
            papers: dict[str, None] = {}
            for digest in verdict.digests:
                async with slots:
                    papers |= await _papers(self._client, place, digest, _tags(look.stock))
            own = (
                digest for digest in papers
                if digest not in keeps and (verdict.repository, digest) not in going
                and digest.removeprefix("sha256:") not in self._needs.named
            )  # fmt: skip
            return replace(verdict, papers=tuple(own))

        return replace(found, verdicts=tuple(await together(with_papers(one) for one in found.verdicts)))

    async def _plan(self, look: Look, holds: float) -> Plan:
        """What would go by what is needed now. holds: needs that were read within so many seconds will do."""
        now = time.monotonic()
        if self._newest is not None and self._newest[0] is look and now - self._newest[2] < holds:
            return self._newest[1]
        self._needs = needs_of(await self._objects(), look.runs, self._stores)
        plan = cleaning.plan(look.stock, self._needs, look.used, self._grace, look.at)
        self._newest = look, plan, now
        return plan

    async def mark(self, plan: Plan) -> None:
        """Count the last use from now where it was not known."""
        await uses.note_all(self._store, plan.marks, "stoker env gc")

    async def remove(self, look: Look, plan: Plan, told: Told) -> Cleaned:
        """Do it. Raises RegistryError and what `objects` raises; another call goes on where this one broke off."""
        removed: list[Verdict] = []
        stays: list[tuple[Verdict, str]] = []
        finds = {(one.repository, one.digest) for one in look.stock if one.names}
        for verdict in cleaning.removal_order(plan.going):
            records = tuple(digest for digest in verdict.digests if (verdict.repository, digest) in finds)
            # First nobody finds it any more, then its papers go, which may keep it from being deleted.
            digests = (*records, *verdict.papers, *verdict.digests[len(records) :])
            for digest in digests:
                # A job may have started, and a build may have begun, since anyone looked.
                anew = verdict.kind in _PULLED and (digest == digests[0] or digest not in verdict.papers)
                now = await self._plan(look, 0.0 if anew else _HOLDS_SECONDS)
                if now.held:
                    return Cleaned(tuple(removed), tuple(stays), now.held)
                if why := _why_not(verdict, now):
                    stays.append((verdict, why))
                    told(verdict, why)
                    break
                await self._client.delete_manifest(self._place(verdict.repository), digest)
            else:
                removed.append(verdict)
                told(verdict, "")
                await uses.forget(self._store, verdict.digests)
        return Cleaned(tuple(removed), tuple(stays))

    def _place(self, repository: str) -> str:
        return f"{self._url}/{repository}"


def _why_not(verdict: Verdict, now: Plan) -> str:
    """Why a unit stays after all; empty where it may go."""
    same = next(
        (one for one in now.verdicts if (one.repository, one.digests) == (verdict.repository, verdict.digests)), None
    )
    if same is None:
        return "it is another one by now"
    return "" if same.goes else same.reason


def _tags(stock: Iterable[Manifest]) -> frozenset[str]:
    return frozenset(tag for one in stock for tag in one.tags)


async def take_stock(client: RegistryClient, url: str) -> tuple[Manifest, ...]:
    """Every manifest of a registry's two repositories that a tag leads to. Raises RegistryError."""
    return (*await _stock_of(client, url, ENVIRONMENTS), *await _stock_of(client, url, PACKAGES))


async def _stock_of(client: RegistryClient, url: str, repository: str) -> list[Manifest]:
    place = f"{url.rstrip('/')}/{repository}"
    slots = asyncio.Semaphore(_AT_ONCE)

    async def read(target: str) -> tuple[str, Manifest | None]:
        async with slots:
            found = await client.get_manifest(place, target)
        # One that has gone since it was listed is none of ours any more.
        return target, _manifest(repository, found.digest, found.content, target, place) if found is not None else None

    found: dict[str, Manifest] = {}
    for tag, one in await together(read(tag) for tag in await client.tags(place) or ()):
        if one is not None:
            known = found.get(one.digest, replace(one, tags=()))
            found[one.digest] = replace(
                known, tags=(*known.tags, tag), names=known.names | one.names, keys=known.keys | one.keys
            )
    asked: set[str] = set()
    while wanted := _named(found.values()) - set(found) - asked:
        asked |= wanted
        found |= {
            digest: replace(one, tags=())
            for digest, one in await together(read(digest) for digest in sorted(wanted))
            if one is not None
        }
    return [found[digest] for digest in sorted(found)]


def _named(manifests: Iterable[Manifest]) -> set[str]:
    """What manifests name, and what papers are about."""
    return {digest for one in manifests for digest in (*one.names, *cleaning.subjects(one.tags))}


def _manifest(repository: str, digest: str, content: bytes, target: str, place: str) -> Manifest:
    try:
        document = msgspec.json.decode(content, type=dict[str, Any])
        layers = list(document.get("layers") or ())
        blobs = {str(one["digest"]): int(one["size"]) for one in (*layers, *filter(None, [document.get("config")]))}
        names = {str(one["digest"]) for one in document.get("manifests") or ()}
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecord(
            f"{place}: the manifest {target} cannot be read, so what it needs is not known: {error}"
        ) from error
    if cleaning.kind_of([target]) == "papers":
        names = set()  # papers are about something, and nothing rests on them
    told = document.get("annotations") or {}
    keys: set[str] = set()
    if document.get("artifactType") == RECORD_TYPE:
        names |= {str(told[IMAGE_DIGEST])} if told.get(IMAGE_DIGEST) else set()
        keys = {str(told[name]) for name in (SPEC_KEY, LOCK_KEY) if told.get(name)}
    return Manifest(
        repository, digest, (), blobs, tuple(str(one["digest"]) for one in layers), frozenset(names), frozenset(keys)
    )


async def _papers(
    client: RegistryClient, place: str, digest: str, tags: frozenset[str], depth: int = 0
) -> dict[str, None]:
    """Digests of what is about a manifest, and about that: what is deepest comes first."""
    listed = await client.referrers(place, digest)
    if fallback_tag(digest) in tags:
        # A registry may have learned to tell referrers after the first were listed under the tag.
        content = await client.get_manifest(place, fallback_tag(digest))
        listed += list((content.document().get("manifests") if content is not None else None) or ())
    found: dict[str, None] = {}
    for paper in dict.fromkeys(str(one["digest"]) for one in listed):
        if depth < _MOST_DEPTH:
            found |= await _papers(client, place, paper, tags, depth + 1)
        found[paper] = None
    return found
