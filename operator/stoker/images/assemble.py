"""Makes the layers of an environment: takes those that a registry has, makes and sends the others."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stoker.core.environment.layering import Part, Unit, fold, split
from stoker.images.compiling import CPUS
from stoker.images.contents import Content
from stoker.images.layers import Layer, merge, write_layer
from stoker.images.packagestore import PackageStore, StoredLayer
from stoker.images.together import together


@dataclass(frozen=True, slots=True)
class Source:
    """A part, and what opens it where no registry has its layer."""

    part: Part
    open: Callable[[], Awaitable[Content]]
    #: The part's key where its content turns out to be bound to this builder or layout.
    bound_key: str = ""


@dataclass
class Assembly:
    """layers: in their order, each with the repository that holds it. made, found: how many layers. sent: in bytes."""

    layers: list[StoredLayer] = field(default_factory=list)
    made: int = 0
    found: int = 0
    sent: int = 0


async def assemble(
    sources: Sequence[Source],
    store: PackageStore,
    scratch: Path,
    root: str,
    prepare: Callable[[Sequence[Part]], Awaitable[None]] | None = None,
) -> Assembly:
    """root: the prefix. prepare: told once which parts will be opened. Raises BuildFailed and the client's errors."""
    maker = _Maker({source.part.key: source for source in sources}, store, scratch, root, prepare)
    try:
        return await maker.run()
    finally:
        await maker.close()


class _Maker:
    def __init__(
        self,
        sources: Mapping[str, Source],
        store: PackageStore,
        scratch: Path,
        root: str,
        prepare: Callable[[Sequence[Part]], Awaitable[None]] | None,
    ) -> None:
        self._prepare = prepare
        self._sources = dict(sources)
        self._store = store
        self._scratch = scratch
        self._root = root
        self._opened: dict[str, asyncio.Task[Content]] = {}
        self._threads = asyncio.Semaphore(CPUS)
        self._result = Assembly()

    async def run(self) -> Assembly:
        units = split(source.part for source in self._sources.values())
        found = dict(zip([unit.key for unit in units], await together(self._seek(unit) for unit in units), strict=True))
        files = {key: known.files for key, known in found.items() if known is not None}
        missing = [unit for unit in units if found[unit.key] is None]
        if missing and self._prepare is not None:
            await self._prepare([part for unit in missing for part in unit.parts])
        # What takes longest first, so that nothing large is left for one processor alone at the end.
        missing.sort(key=lambda unit: -sum(part.size for part in unit.parts))
        opened = await together(map(self._open, missing))
        for unit, (bound, owned) in zip(missing, opened, strict=True):
            files[bound.key] = owned
            units = tuple(bound if one is unit else one for one in units)
        folded = fold(units, files)
        self._result.layers = await together(self._layer(unit, found) for unit in folded)
        return self._result

    async def close(self) -> None:
        for task in self._opened.values():
            task.cancel()
        for task in self._opened.values():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                (await task).close()

    async def _seek(self, unit: Unit) -> StoredLayer | None:
        return await self._store.find(unit.key)

    async def _open(self, unit: Unit) -> tuple[Unit, list[str]]:
        """The unit under the keys that its contents turn out to have, and its files."""
        contents = await self._contents(unit)
        parts = []
        for part, content in zip(unit.parts, contents, strict=True):
            source = self._sources[part.key]
            if content.bound and source.bound_key not in ("", part.key):
                bound = replace(part, key=source.bound_key)
                self._sources[bound.key] = source
                self._opened[bound.key] = self._opened[part.key]
                part = bound
            parts.append(part)
        return Unit(tuple(parts)), [path for content in contents for path in content.files]

    async def _contents(self, unit: Unit) -> list[Content]:
        for part in unit.parts:
            if part.key not in self._opened:
                self._opened[part.key] = asyncio.ensure_future(self._sources[part.key].open())
        return [await asyncio.shield(self._opened[part.key]) for part in unit.parts]

    async def _layer(self, unit: Unit, found: Mapping[str, StoredLayer | None]) -> StoredLayer:
        known = found[unit.key] if unit.key in found else await self._seek(unit)
        if known is not None:
            self._result.found += 1
            return known
        contents = await self._contents(unit)
        entries = merge([await content.entries() for content in contents])
        out = self._scratch / f"layer-{unit.key}"
        async with self._threads:
            layer: Layer = await asyncio.to_thread(write_layer, entries, out, root=self._root, created_by=unit.name)
        try:
            stored, sent = await self._store.put(unit.key, layer, sorted(entries), out)
        finally:
            out.unlink()
        self._result.made += 1
        self._result.sent += sent
        return stored
