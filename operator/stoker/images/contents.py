"""What a part of an environment puts into its layer, whatever it comes from."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from stoker.images.compiling import Compiler
from stoker.images.layers import Entries, File
from stoker.images.wheel import InstalledWheel, Layout


class Content(Protocol):
    """Opened: its files are known. What is needed for it runs meanwhile; `entries` waits for that."""

    #: Whether it is good under its source's bound key alone: the package's own code has run here, or the place of a file
    #: depends on more than the package.
    bound: bool

    @property
    def files(self) -> Collection[str]:
        """Paths in the image, without the leading slash."""
        ...

    async def entries(self) -> Entries: ...

    def close(self) -> None: ...


class Ready:
    """Entries that are there already."""

    bound = False

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    @property
    def files(self) -> Collection[str]:
        return self._entries.keys()

    async def entries(self) -> Entries:
        return self._entries

    def close(self) -> None:
        pass


class WheelContent:
    """A wheel; its modules are being compiled from the moment it is opened."""

    def __init__(self, path: Path, layout: Layout, compiler: Compiler | None) -> None:
        self._wheel = InstalledWheel(path, layout)
        self.bound = self._wheel.has_headers
        self._code: asyncio.Task[Mapping[str, File]] | None = None
        if compiler is not None:
            modules = list(self._wheel.modules())
            self._code = asyncio.create_task(compiler.compile(path, modules))

    @property
    def files(self) -> Collection[str]:
        return self._wheel.entries.keys()

    async def entries(self) -> Entries:
        return self._wheel.compiled(await self._code if self._code is not None else {})

    def close(self) -> None:
        if self._code is not None:
            self._code.cancel()
        self._wheel.close()
