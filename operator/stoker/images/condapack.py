"""Files of conda packages, as an ordinary install at the prefix would leave them.

py-rattler installs into a scratch folder with the image's prefix written into the files; each package's share is what
its conda-meta record lists. Only packages whose layers no registry has are installed at all.
"""

import _imp
import asyncio
import contextlib
import json
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from rattler import RepoDataRecord, Subdir, install

from stoker.images.compiling import Compiler
from stoker.images.conda import SUBDIRS, Channels
from stoker.images.failure import BuildFailed, disk_full, killed, out_of_memory
from stoker.images.layers import Entries, File, Folder, Link
from stoker.images.wheel import Layout

_SCRIPT_SECONDS = 600
#: What tells one install from another, in conda-meta's records.
_LEFT_OUT = (
    "extracted_package_dir",
    "package_tarball_full_path",
    "requested_spec",
    "requested_specs",
    "indexed_timestamp",
)


class CondaPackages:
    """Installs packages when their files are asked for, many at once where many are."""

    def __init__(
        self,
        records: Mapping[str, RepoDataRecord],
        channels: Channels,
        layout: Layout,
        platform: str,
        scratch: Path,
        compiler: Compiler | None,
    ) -> None:
        self._records = records
        self._channels = channels
        self._layout = layout
        self._platform = platform
        self._scratch = scratch
        self._compiler = compiler
        self._where: dict[str, Path] = {}
        self._lock = asyncio.Lock()

    async def prepare(self, names: Collection[str]) -> None:
        """Installs what of the names is not installed yet."""
        async with self._lock:
            missing = [name for name in sorted(names) if name not in self._where]
            if not missing:
                return
            folder = await self._install(missing, f"conda-{len(self._where)}")
            self._where |= dict.fromkeys(missing, folder)
            contested = _contested(folder) if len(missing) > 1 else set()
            clashing = [name for name in missing if contested and _owns(folder, self._records[name], contested)]
            # Apart, each of them has its files under their own names.
            for name in clashing:
                self._where[name] = await self._install([name], f"conda-alone-{name}")

    async def open(self, name: str) -> "CondaContent":
        await self.prepare([name])
        folder = self._where[name]
        meta = _meta(folder, self._records[name])
        content = CondaContent(folder, meta, self._channels, self._layout, self._compiler)
        script = folder / "bin" / f".{name}-post-link.sh"
        if script.exists():
            content.add(await self._post_link(name))
        content.start()
        return content

    async def _install(self, names: Sequence[str], folder_name: str, *, own_prefix: bool = False) -> Path:
        folder = self._scratch / folder_name
        records = [self._records[name] for name in names]
        if "python" in self._records and "python" not in names and any(one.noarch.python for one in records):
            # Where modules of noarch packages go is Python's to say.
            records.append(self._records["python"])
        try:
            await install(
                records,
                folder,
                cache_dir=self._scratch / "conda-cache",
                installed_packages=[],
                platform=Subdir(SUBDIRS[self._platform]),
                execute_link_scripts=False,
                show_progress=False,
                alternative_target_prefix=None if own_prefix else self._layout.prefix,
            )
        except Exception as error:  # rattler raises what its parts raise, each of its own kind
            raise _install_failure(error) from error
        return folder

    async def _post_link(self, name: str) -> dict[str, File | Link | Folder]:
        """Runs a package's script in an environment of its own, and returns what it added."""
        folder = await self._install(self._needed_by(name), f"conda-linked-{name}", own_prefix=True)
        before = _stamps(folder)
        child = await asyncio.create_subprocess_exec(
            *("/bin/sh", str(folder / "bin" / f".{name}-post-link.sh")),
            cwd=folder,
            env={
                "PREFIX": str(folder),
                "PATH": f"{folder}/bin:/usr/bin:/bin",
                "HOME": str(self._scratch),
                "PKG_NAME": name,
                "PKG_VERSION": str(self._records[name].version),
                "PKG_BUILDNUM": str(self._records[name].build_number),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_SCRIPT_SECONDS):
                words, _ = await child.communicate()
        except TimeoutError:
            raise BuildFailed("PostLinkFailed", f"{name}: its post-link script ran for {_SCRIPT_SECONDS} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            said = words.decode(errors="replace")[-1500:]
            if killed(child.returncode):
                raise out_of_memory(f"the post-link script of {name}")
            raise BuildFailed("PostLinkFailed", f"{name}: its post-link script ended with {child.returncode}\n{said}")
        after = _stamps(folder)
        changed = sorted(path for path in before if before[path] != after.get(path) and not path.endswith(".pyc"))
        if changed:
            raise BuildFailed(
                "PostLinkFailed",
                f"{name}: its post-link script changes files of other packages ({', '.join(changed[:5])}); "
                "install it by a docker step",
            )
        return {self._inside(path): self._moved(folder, folder / path) for path in sorted(after.keys() - before.keys())}

    def _needed_by(self, name: str) -> list[str]:
        """The package and all that it depends on: what its script may count on."""
        found, rest = {name}, [name]
        while rest:
            for text in self._records[rest.pop()].depends:
                needed = text.split()[0]
                if needed in self._records and needed not in found:
                    found.add(needed)
                    rest.append(needed)
        return sorted(found)

    def _inside(self, path: str) -> str:
        return f"{self._layout.prefix}/{path}".lstrip("/")

    def _moved(self, folder: Path, path: Path) -> File | Link:
        if path.is_symlink():
            return Link(os.readlink(path).replace(str(folder), self._layout.prefix))
        content = path.read_bytes()
        if b"\0" not in content:
            content = content.replace(str(folder).encode(), self._layout.prefix.encode())
        return File.of(content, executable=bool(path.stat().st_mode & 0o111))


class CondaContent:
    """One package's files in a scratch prefix."""

    def __init__(self, folder: Path, meta: Path, channels: Channels, layout: Layout, compiler: Compiler | None) -> None:
        self._folder = folder
        self._layout = layout
        self._compiler = compiler
        self._root = layout.prefix.lstrip("/")
        self._code: asyncio.Task[Mapping[str, File]] | None = None
        document = json.loads(meta.read_text())
        self._entries: dict[str, File | Link | Folder] = {}
        for path in document.get("files") or ():
            if not path.endswith(".pyc"):
                self._entries[f"{self._root}/{path}"] = _entry(folder / path)
        self._pinned = {
            f"{self._root}/{path}": pinned
            for path in document.get("files") or ()
            if path.endswith(".pyc") and (pinned := _pinned(folder / path)) is not None
        }
        self._entries |= self._pinned
        self._entries[f"{self._root}/conda-meta/{meta.name}"] = File.of(_record(document, channels, self._root))
        self.bound = False

    @property
    def files(self) -> Collection[str]:
        return self._entries.keys()

    def add(self, entries: Entries) -> None:
        """What the package's own script made: then the layer is only good for the builder that ran it."""
        self._entries |= entries
        self.bound = True

    def start(self) -> None:
        """Begins to compile what came without bytecode."""
        if self._compiler is None:
            return
        library = f"{self._root}/lib/python{self._layout.python}/"
        compiled = {_source_of(path) for path in self._pinned}
        modules = [
            (str(self._folder / path.removeprefix(f"{self._root}/")), f"/{path}")
            for path, entry in self._entries.items()
            if path.endswith(".py") and path.startswith(library) and path not in compiled and isinstance(entry, File)
        ]
        self._code = asyncio.create_task(self._compiler.compile(None, modules))

    async def entries(self) -> Entries:
        code = await self._code if self._code is not None else {}
        made = {cache_from_source(path, optimization="").lstrip("/"): file for path, file in code.items()}
        return self._entries | made

    def close(self) -> None:
        if self._code is not None:
            self._code.cancel()


def _entry(path: Path) -> File | Link:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return Link(os.readlink(path))
    return File.at(path, executable=bool(found.st_mode & 0o111))


def _pinned(path: Path) -> File | None:
    """Bytecode that looks at its source's time of change, made to look at nothing: times are all one in an image.

    Without its source beside it, it is left as it is (PEP 3147's sourceless modules).
    """
    content = path.read_bytes()
    source = path.parent.parent / (path.name.partition(".")[0] + ".py")
    if len(content) < 16 or not source.is_file():
        return File.of(content)
    magic = content[:4]
    digest = _imp.source_hash(int.from_bytes(magic, "little"), source.read_bytes())
    return File.of(magic + (1).to_bytes(4, "little") + digest + content[16:])


def _source_of(path: str) -> str:
    folder, _, name = path.rpartition("/__pycache__/")
    return f"{folder}/{name.partition('.')[0]}.py"


def _record(document: dict[str, Any], channels: Channels, root: str) -> bytes:
    """conda-meta's record without what tells one install from another."""
    kept = {name: value for name, value in document.items() if name not in _LEFT_OUT}
    for name in ("url", "channel"):
        if isinstance(kept.get(name), str):
            kept[name] = channels.canonical(kept[name])
    if isinstance(kept.get("link"), dict):
        kept["link"] = {"source": "", "type": 1}
    return json.dumps(kept, indent=2, sort_keys=True).encode()


def _meta(folder: Path, record: RepoDataRecord) -> Path:
    return folder / "conda-meta" / f"{record.name.normalized}-{record.version}-{record.build}.json"


def _contested(folder: Path) -> set[str]:
    """Files that two packages of one install bring: rattler keeps the second under another name."""
    found = folder.rglob("*__clobber-from-*")
    return {str(path.relative_to(folder)).partition("__clobber-from-")[0] for path in found}


def _owns(folder: Path, record: RepoDataRecord, contested: set[str]) -> bool:
    files = json.loads(_meta(folder, record).read_text()).get("files") or ()
    return any(path.partition("__clobber-from-")[0] in contested for path in files)


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            about = path.lstat()
            if not stat.S_ISDIR(about.st_mode):
                found[str(path.relative_to(folder))] = (about.st_size, about.st_mtime_ns)
    return found


def _install_failure(error: Exception) -> BuildFailed:
    words = str(error)
    if "No space left" in words:
        return disk_full(f"the builder's scratch folder is full: {words}")
    if "mismatch" in words and ("hash" in words.lower() or "sha256" in words.lower()):
        return BuildFailed("HashMismatch", words)
    return BuildFailed("IndexUnreachable", words, transient=True)
