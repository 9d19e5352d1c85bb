"""The object store as the rest of Stoker sees it: a small promise, kept over S3 and over local files.

Errors say what the caller does next: `StoreUnavailable` = ask again later, `StoreRefused` = only a person can mend
it, `NoSuchObject` = the key holds nothing. No error of a library gets through.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from stoker.errors import EXIT_USAGE, StokerError
from stoker.storage.layout import key_problem

T = TypeVar("T")


class StoreError(StokerError):
    """What a store could not do; the message names the store, the key and the cause."""


class StoreUnavailable(StoreError):
    """The store does not answer, or answers that it is busy: the same call may work later."""


class StoreRefused(StoreError):
    """The store answers and will not do it: no right, no bucket, no room. `code` is the store's own word, if any."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class NoSuchObject(StoreError):
    """There is no object of that key."""


class BadStoreUrl(StoreError):
    """The URL or the options do not name a store; the message says what a good one looks like."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that exists. key: relative to the store's URL; size: bytes; modified: seconds since the epoch."""

    key: str
    size: int
    modified: float
    etag: str = ""


class ObjectStore(Protocol):
    """Objects below one URL. Keys are relative to it, `/` between parts (layout.key_problem tells a bad one)."""

    @property
    def url(self) -> str:
        """Where the objects are, without credentials and without a `/` at its end."""

    async def head(self, key: str) -> Stored | None:
        """What is known of an object, None if there is none."""

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes | None:
        """The bytes [start, end) of an object, fewer if it is shorter; None if there is none."""

    def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The same in pieces of at most a few MiB; raises NoSuchObject."""

    async def put(self, key: str, content: bytes | Path, *, only_if_absent: bool = False) -> bool:
        """Store the whole content under the key, or nothing of it.

        With only_if_absent, of several writers exactly one gets True; False: another one's object is there. A repeat
        after a lost answer that finds this very content there counts as one's own and gives True. A file is read
        while it is sent: the caller keeps it still.
        """

    def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        """All objects whose key starts with the prefix (empty, or ending in `/`), sorted by key's UTF-8 bytes."""

    async def folders(self, prefix: str = "") -> tuple[str, ...]:
        """The names of the folders right below the prefix (empty, or ending in `/`), sorted."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove these objects; one that is not there is no error."""

    async def drop_leftovers(self, prefix: str) -> int | None:
        """Remove what lies below the prefix (ending in `/`) and is no object: uploads in parts that nobody finished, and
        empty folders. How many uploads; None where the store could not be asked (keys that are not in the environment).
        """


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How to reach an S3 store. Empty: from the environment, see `from_env`; a `file:` store needs none.

    endpoint: URL of the service, empty for AWS itself. path_style: None = yes whenever an endpoint is given.
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    path_style: bool | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "StoreOptions":
        """From AWS_ENDPOINT_URL(_S3), AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and
        STOKER_S3_PATH_STYLE (true or false)."""
        style = env.get("STOKER_S3_PATH_STYLE", "").lower()
        if style not in ("", "true", "false"):
            raise BadStoreUrl(f"STOKER_S3_PATH_STYLE={style!r}: use true or false")
        return cls(
            endpoint=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL", ""),
            region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1",
            access_key=env.get("AWS_ACCESS_KEY_ID", ""),
            secret_key=env.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=env.get("AWS_SESSION_TOKEN", ""),
            path_style=None if not style else style == "true",
        )

    @property
    def uses_path_style(self) -> bool:
        return bool(self.endpoint) if self.path_style is None else self.path_style


def split_s3_url(url: str) -> tuple[str, str]:
    """Bucket and prefix (no `/` at either end) of `s3://bucket/prefix`; raises BadStoreUrl."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise BadStoreUrl(f"{url!r} is not an S3 URL; it looks like s3://bucket/prefix")
    if prefix and (problem := key_problem(prefix)):
        raise BadStoreUrl(f"{url!r}: {problem}; it looks like s3://bucket/prefix")
    return parts.netloc, prefix


def split_file_url(url: str) -> Path:
    """The folder of `file:///abs/path`; raises BadStoreUrl."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise BadStoreUrl(f"{url!r} is not a file URL; it looks like file:///home/me/stoker")
    path = url2pathname(parts.path) if os.name == "nt" else unquote(parts.path)
    return Path(path)


def open_store(url: str, options: StoreOptions | None = None) -> ObjectStore:
    """The store at `s3://bucket/prefix` or `file:///abs/path`. Sends nothing; raises BadStoreUrl."""
    scheme = urlsplit(url).scheme
    if scheme == "file":
        from stoker.storage.file_store import FileStore

        return FileStore(split_file_url(url))
    if scheme == "s3":
        from stoker.storage.s3_store import S3Store

        return S3Store(url, options if options is not None else StoreOptions.from_env())
    raise BadStoreUrl(f"{url!r} names no store that Stoker knows; use s3://bucket/prefix or file:///abs/path")


def check_key(key: str) -> None:
    """Raises StoreRefused for a text that may not be the name of an object."""
    if problem := key_problem(key):
        raise StoreRefused(f"{key!r}: {problem}", "BadKey")


def check_prefix(prefix: str) -> None:
    """Raises StoreRefused for a prefix that is neither empty nor a folder's name with `/` at its end."""
    if prefix and (not prefix.endswith("/") or key_problem(prefix[:-1])):
        raise StoreRefused(f"{prefix!r} is not a folder of keys; it ends in `/`", "BadKey")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do one piece of store work from code that is no coroutine: the CLI, and the SDK, also inside a notebook's own loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    # A loop runs in this thread already, and no second one may.
    with ThreadPoolExecutor(1, "stoker-store") as other:
        return other.submit(asyncio.run, work).result()
