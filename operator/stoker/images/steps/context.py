"""The folder that COPY takes from: a snapshot of the job's code, fetched, checked and unpacked."""

import asyncio
import hashlib
import stat
import unicodedata
import zipfile
from pathlib import Path

import aiohttp

from stoker.core.environment.context import below, context_digest
from stoker.core.environment.request import Context
from stoker.images.failure import BuildFailed
from stoker.runtime import unpack, wire

_BLOCK = 1 << 20
_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 60.0


async def fetch(context: Context | None, work: Path) -> Path:
    """The context's folder below `work`; an empty one without a context. Raises BuildFailed.

    What the digest in the request names is what is unpacked, or nothing is.
    """
    root = work / "context"
    root.mkdir(parents=True, exist_ok=True)
    if context is None:
        return root
    archive = work / "context.zip"
    await _download(context.url, archive)
    await asyncio.to_thread(_unpack, archive, root, context)
    archive.unlink()
    folder = root.joinpath(*context.path.split("/")) if context.path else root
    if not folder.is_dir():
        raise BuildFailed("SpecInvalid", f"the job's code has no folder {context.path!r}", where="context")
    return folder


async def _download(url: str, archive: Path) -> None:
    limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
    # The URL is signed: it stays out of every message.
    try:
        async with aiohttp.ClientSession(timeout=limits, trust_env=True) as session, session.get(url) as response:
            if response.status != 200:
                raise BuildFailed(
                    "ContextUnavailable", f"the store answered {response.status} for the job's code", transient=True
                )
            with await asyncio.to_thread(archive.open, "wb") as file:
                async for block in response.content.iter_chunked(_BLOCK):
                    file.write(block)
    except (aiohttp.ClientError, TimeoutError) as error:
        message = f"the job's code cannot be fetched from the store: {type(error).__name__}"
        raise BuildFailed("ContextUnavailable", message, transient=True) from None


def _unpack(archive: Path, root: Path, context: Context) -> None:
    try:
        found = entries(archive)
        if (digest := context_digest(below(found, context.path))) != context.digest:
            raise BuildFailed(
                "SnapshotCorrupt", f"the job's code hashes to {digest} and not to {context.digest}", where="context"
            )
        unpack.unpack(wire.encode_manifest(found), str(archive), str(root))
    except (unpack.UnpackRefused, wire.WireError, zipfile.BadZipFile) as error:
        raise BuildFailed("SnapshotCorrupt", f"the job's code cannot be unpacked: {error}", where="context") from None


def entries(archive: Path) -> tuple[wire.Entry, ...]:
    """What a snapshot's zip holds, read from its bytes alone."""
    found = []
    with zipfile.ZipFile(archive) as package:
        for info in package.infolist():
            path = unicodedata.normalize("NFC", info.filename)
            mode = info.external_attr >> 16
            with package.open(info) as file:
                if stat.S_ISLNK(mode):
                    target = file.read()
                    found.append(wire.Entry(path, 0, hashlib.sha256(target).hexdigest(), target=target.decode()))
                else:
                    hashed = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                    found.append(wire.Entry(path, info.file_size, hashed, bool(mode & 0o100)))
    return tuple(sorted(found, key=lambda one: one.path.encode()))
