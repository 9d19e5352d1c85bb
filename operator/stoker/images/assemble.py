"""Makes the layers of an environment: takes those that a registry has, makes and sends the others."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stoker.core.environment.layering import Part, Unit, fold, split
from stoker.images.compiling import CPUS
from stoker.images.contents import Content
from stoker.images.layers import Layer, merge, write_layer
from stoker.images.packagestore import PackageStore, StoredLayer


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A part, and what opens it where no registry has its layer."""

    part: Part
    open: Callable[[], Awaitable[Content]]


@dataclass
class Assembly:
    """layers: in their order, each with the repository that holds it. made, found: how many layers. sent: in bytes."""

    layers: list[StoredLayer] = field(default_factory=list)
    made: int = 0
    found: int = 0
    sent: int = 0


async def assemble(sources: Sequence[Source], store: PackageStore, scratch: Path, root: str) -> Assembly:
    """root: the prefix. Raises BuildFailed and the registry client's errors."""
    maker = _Maker({source.part.key: source for source in sources}, store, scratch, root)
    try:
        return await maker.run()
    finally:
        await maker.close()


class _Maker:
    def __init__(self, sources: Mapping[str, Source], store: PackageStore, scratch: Path, root: str) -> None:
        self._sources = sources
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
        files |= dict(zip([unit.key for unit in missing], await together(map(self._files, missing)), strict=True))
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

    async def _files(self, unit: Unit) -> list[str]:
        contents = await self._contents(unit)
        return [path for content in contents for path in content.files]

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


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first failure ends the others and is raised as it is."""
    tasks: list[asyncio.Task[T]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks.extend(group.create_task(one) for one in work)
    except BaseExceptionGroup as failures:
        raise next(iter(failures.exceptions)) from None
    return [task.result() for task in tasks]
