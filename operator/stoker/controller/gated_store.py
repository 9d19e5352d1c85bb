"""An object store in which only the leader writes."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from stoker.controller.gate import Gate, check
from stoker.storage.objects import ObjectStore, Stored


class GatedStore:
    """An ObjectStore that asks the gate before each write; raises NotLeading. Everybody may read."""

    def __init__(self, store: ObjectStore, gate: Gate) -> None:
        self._store = store
        self._gate = gate

    @property
    def url(self) -> str:
        return self._store.url

    async def head(self, key: str) -> Stored | None:
        return await self._store.head(key)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes | None:
        return await self._store.get(key, start, end)

    def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return self._store.stream(key, start, end)

    async def put(self, key: str, content: bytes | Path, *, only_if_absent: bool = False) -> bool:
        check(self._gate)
        return await self._store.put(key, content, only_if_absent=only_if_absent)

    def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        return self._store.list(prefix)

    async def folders(self, prefix: str = "") -> tuple[str, ...]:
        return await self._store.folders(prefix)

    async def delete(self, keys: Iterable[str]) -> None:
        check(self._gate)
        await self._store.delete(keys)

    async def drop_leftovers(self, prefix: str) -> int | None:
        check(self._gate)
        return await self._store.drop_leftovers(prefix)
