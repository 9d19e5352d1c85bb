"""Which Python distributions conda packages bring.

Their names differ: `pytorch` brings `torch`. pip goes by what lies in site-packages, so each package's list of files is
read, by a few ranges of its archive, before pip's part is solved.
"""

import asyncio
import re
from collections.abc import Iterable

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from rattler import Client, PathsJson, RepoDataRecord

_AT_ONCE = 16
#: What an installed distribution is known by: a folder of metadata, or a file of setuptools' older kind.
_METADATA = re.compile(
    r"(?:^|/)site-packages/([^/]+?)-(\d[^/-]*)(?:-py\d[\d.]*)?\.(?:dist-info/METADATA|egg-info(?:/PKG-INFO)?)\Z"
)


async def brought(records: Iterable[RepoDataRecord]) -> dict[str, str]:
    """PEP 503 name -> version. A package that lists none counts as a distribution of its own name. Raises OSError, which
    names the package, where a list cannot be read."""
    client = Client.default_client()
    slots = asyncio.Semaphore(_AT_ONCE)

    async def of(record: RepoDataRecord) -> dict[str, str]:
        name = record.name.normalized
        async with slots:
            try:
                files = await PathsJson.from_remote_url(client, str(record.url))
            except OSError as error:
                raise OSError(f"{name}: its list of files cannot be read: {error}") from error
        found = listed(str(path.relative_path) for path in files.paths) if files is not None else {}
        version = _pep440(str(record.version))
        return found or ({canonicalize_name(name): version} if version else {})

    found: dict[str, str] = {}
    for one in await asyncio.gather(*(of(record) for record in records if _needs_python(record))):
        found |= one
    return found


def listed(paths: Iterable[str]) -> dict[str, str]:
    """What metadata in site-packages stands for: PEP 503 name -> version."""
    matches = (_METADATA.search(path) for path in paths)
    return {canonicalize_name(found[1]): version for found in matches if found and (version := _pep440(found[2]))}


def _needs_python(record: RepoDataRecord) -> bool:
    return bool(record.noarch.python) or any(re.match(r"python( |$)", one) for one in record.depends)


def _pep440(version: str) -> str:
    try:
        return str(Version(version))
    except InvalidVersion:
        return ""
