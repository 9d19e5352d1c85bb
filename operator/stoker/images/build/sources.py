"""What each package of a lock becomes a layer from."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from stoker.core.environment.layering import Part, package_key
from stoker.core.environment.lock import Package
from stoker.images import python
from stoker.images.assemble import Source
from stoker.images.build.solve import Solved
from stoker.images.build.work import BUILDER_VARIABLE
from stoker.images.compiling import Compiler, compiles_for
from stoker.images.contents import Content, Ready, WheelContent
from stoker.images.fetch import Fetcher
from stoker.images.source import build_wheel
from stoker.images.venv import skeleton

if TYPE_CHECKING:
    from stoker.images.condapack import CondaPackages

#: Stability classes: what changes least lies lowest, so that most nodes have it already.
INTERPRETER, CONDA, COMPILED, PURE, SOURCE = range(5)


class Workshop:
    """Turns the packages of one solved environment into sources of layers. Close it."""

    def __init__(self, solved: Solved, session: aiohttp.ClientSession, scratch: Path, *, bytecode: bool) -> None:
        self._solved = solved
        self._scratch = scratch
        self.fetcher = Fetcher(session, scratch / "files")
        self.compiles = bytecode and compiles_for(solved.lock.python or "0")
        self._compiler = Compiler(scratch) if self.compiles else None
        self._conda: CondaPackages | None = None
        if solved.conda is not None and solved.channels is not None:
            from stoker.images import condapack  # loads conda's solver

            self._conda = condapack.CondaPackages(
                solved.conda.records, solved.channels, solved.layout, solved.lock.platform, scratch, self._compiler
            )

    async def close(self) -> None:
        if self._compiler is not None:
            await self._compiler.close()

    def sources(self) -> list[Source]:
        found = [self._source(package) for package in self._solved.lock.packages]
        if self._solved.interpreter is not None:
            found.append(self._frame())
        return found

    async def prepare(self, parts: Sequence[Part]) -> None:
        """Installs the conda packages among these together."""
        if self._conda is not None:
            names = {package.name for package in self._solved.lock.packages if package.kind == "conda"}
            await self._conda.prepare([part.name for part in parts if part.name in names and part.stability <= CONDA])

    def _source(self, package: Package) -> Source:
        builder = os.environ.get(BUILDER_VARIABLE, "") or "unnamed"
        if package.kind == "conda" and self._conda is not None:
            stability = INTERPRETER if package.name == "python" else CONDA
            part = Part(package.name, self._key(package, ""), package.size, stability, package.name == "python")
            return Source(part, partial(self._conda.open, package.name), self._key(package, builder))
        if package.kind == "python":
            part = Part(package.name, self._key(package, ""), package.size, INTERPRETER, True)
            return Source(part, partial(self._python, package))
        if package.source:
            part = Part(package.name, self._key(package, builder), package.size, SOURCE)
            return Source(part, partial(self._built, package))
        stability = PURE if package.build.endswith("-none-any") else COMPILED
        part = Part(package.name, self._key(package, "", whose=False), package.size, stability)
        return Source(part, partial(self._wheel, package), self._key(package, ""))

    def _key(self, package: Package, builder: str, *, whose: bool = True) -> str:
        """whose: whether it matters that the Python is the environment's own or the base's."""
        layout = self._solved.layout
        return package_key(
            kind=package.kind,
            sha256=package.sha256,
            python=layout.python,
            prefix=layout.prefix,
            layer_format=self._solved.lock.layer_format,
            builder=builder,
            # Whether bytecode is in it, and where headers lie: neither follows from the lock's own words.
            extra=f"compiled={int(self.compiles)}" + (f" own={int(layout.own_python)}" if whose else ""),
        )

    async def _wheel(self, package: Package) -> Content:
        return WheelContent(await self.fetcher.get(package), self._solved.layout, self._compiler)

    async def _python(self, package: Package) -> Content:
        archive = await self.fetcher.get(package)
        return await python.opened(archive, self._solved.layout, self._scratch, self._compiler)

    async def _built(self, package: Package) -> Content:
        archive = await self.fetcher.get(package)
        wheel = await build_wheel(package, archive, self._solved.indexes, self._scratch)
        return WheelContent(wheel, self._solved.layout, self._compiler)

    def _frame(self) -> Source:
        """The venv's own files. They name the base's interpreter, and so does their key."""
        interpreter, layout = self._solved.interpreter, self._solved.layout
        assert interpreter is not None
        own_pip = any(package.name == "pip" for package in self._solved.lock.packages)
        content = Ready(skeleton(layout, interpreter.path, interpreter.version, own_pip=own_pip))
        key = package_key(
            kind="venv",
            sha256="",
            python=layout.python,
            prefix=layout.prefix,
            layer_format=self._solved.lock.layer_format,
            extra=f"{interpreter.path} {interpreter.version} pip={'own' if own_pip else 'base'}",
        )

        async def opened() -> Content:
            return content

        return Source(Part("venv", key, 0, INTERPRETER, True), opened)
