"""Downloads package files: several at once, checked against the lock's hash."""

import asyncio
import hashlib
import random
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from stoker.core.environment.lock import Package
from stoker.images.failure import BuildFailed

AT_ONCE = 8
TRIES = 4
BACKOFF_SECONDS = 0.5
_BLOCK = 1 << 20


class Fetcher:
    """Fetches files into a folder. Credentials come from the netrc file that the variable NETRC names."""

    def __init__(self, session: aiohttp.ClientSession, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.bytes = 0

    async def get(self, package: Package) -> Path:
        """The package's file, under its own name. Raises BuildFailed."""
        name = unquote(urlsplit(package.url).path.rpartition("/")[2])
        path = self._folder / package.sha256 / name
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{name}.part")
        async with self._slots:
            problem = ""
            for attempt in range(TRIES):
                if attempt:
                    await asyncio.sleep(BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
                try:
                    digest = await self._download(package, part)
                except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                    problem = f"{error or type(error).__name__}"
                    continue
                except aiohttp.ClientResponseError as error:
                    if error.status not in (408, 429) and error.status < 500:
                        raise _refused(package, error.status) from error
                    problem = f"answered {error.status}"
                    continue
                if digest != package.sha256:
                    raise BuildFailed(
                        "HashMismatch",
                        f"{package.name} {package.version}: {package.url} hashes to {digest}, the index said "
                        f"{package.sha256}; the index or a proxy on the way serves another file under this name",
                    )
                part.rename(path)
                return path
        raise BuildFailed("IndexUnreachable", f"{package.url}: {problem}, {TRIES} times", transient=True)

    async def _download(self, package: Package, part: Path) -> str:
        digest = hashlib.sha256()
        async with self._session.get(package.url, raise_for_status=True) as response:
            with open(part, "wb") as file:  # noqa: ASYNC230 (a block goes to the page cache in no time)
                async for block in response.content.iter_chunked(_BLOCK):
                    digest.update(block)
                    file.write(block)
                    self.bytes += len(block)
        return digest.hexdigest()


def _refused(package: Package, status: int) -> BuildFailed:
    if status in (401, 403):
        return BuildFailed(
            "IndexUnauthorized",
            f"{package.url} answered {status}; put the index's credentials into the Secret that the Workspace's "
            "mirrors.secretRef names",
        )
    return BuildFailed("PackageNotFound", f"{package.name} {package.version}: {package.url} answered {status}")
