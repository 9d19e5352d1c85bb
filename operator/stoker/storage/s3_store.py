"""Objects in an S3 store, over obstore (a seventh of boto3's CPU time on small files).

Only obstore's blocking calls are used, in threads of ours. Its asynchronous ones come back on a thread of Rust's that
needs the interpreter a little longer than the answer: one process in eight that ended right then was aborted.

obstore tells neither 412 from 409 nor "no such bucket" from "no such key" by its exceptions, so the store's answer is
read from the error's text; the component tests hold every line of that reading against a server.
"""

import asyncio
import functools
import mmap
import random
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as RawStore

from stoker.storage.leftovers import Uploads
from stoker.storage.objects import (
    NoSuchObject,
    Stored,
    StoreError,
    StoreOptions,
    StoreRefused,
    StoreUnavailable,
    check_key,
    check_prefix,
    split_s3_url,
)
from stoker.storage.threads import Threads

T = TypeVar("T")

#: Larger files go in parts, unless they must be the first of their name: then in one PUT, which S3 allows to 5 GiB.
_ONE_PUT = 64 << 20
_MOST_IN_ONE_PUT = 5 << 30
_PIECE = 1 << 20
#: How often a conditional PUT is sent again; the waits double from the first (seconds).
_TRIES, _FIRST_WAIT = 5, 0.2
_PASSING_CODES = {"RequestTimeout", "SlowDown", "ServiceUnavailable", "InternalError", "OperationAborted"}
_REFUSED_STATUS = {400, 401, 403, 404, 405, 411, 501, 507}

#: Calls under way at once, over all stores of this process.
_threads = Threads(32)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")


class S3Store:
    """An ObjectStore over `s3://bucket/prefix`."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        bucket, prefix = split_s3_url(url)
        self._bucket, self._prefix, self._options = bucket, prefix, options
        self._url = f"s3://{bucket}/{prefix}".rstrip("/")
        # Records and listings answer at once or not at all. A body may take as long as it takes to send.
        self._quick = _raw(bucket, prefix, options, timeout=30, retries=3)
        self._bulk = _raw(bucket, prefix, options, timeout=6 * 3600, retries=3)
        # A repeat that we did not see would turn our own write into "another one's" (412).
        self._once = _raw(bucket, prefix, options, timeout=6 * 3600, retries=0)

    @property
    def url(self) -> str:
        return self._url

    async def head(self, key: str) -> Stored | None:
        check_key(key)
        meta = await self._asked(key, lambda: obstore.head(self._quick, key))
        return None if meta is None else _stored(key, meta)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes | None:
        check_key(key)
        if start == 0 and end is None:
            return await self._asked(key, lambda: _whole(self._bulk, key))
        found = await self.head(key)
        if found is None:
            return None
        upto = found.size if end is None else min(end, found.size)
        if start >= upto:
            return b""
        return await self._asked(key, lambda: _range(self._bulk, key, start, upto))

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        found = await self.head(key)
        if found is None:
            raise NoSuchObject(f"{self._url}: there is no {key}")
        upto = found.size if end is None else min(end, found.size)
        if start >= upto:
            return
        answer = await self._asked(key, lambda: obstore.get(self._bulk, key, options={"range": (start, upto)}))
        if answer is None:
            raise NoSuchObject(f"{self._url}: there is no {key}")
        pieces = iter(answer.stream(min_chunk_size=_PIECE))
        while (piece := await self._next(key, pieces)) is not None:
            yield bytes(piece)

    async def put(self, key: str, content: bytes | Path, *, only_if_absent: bool = False) -> bool:
        check_key(key)
        if isinstance(content, bytes):
            return await self._put(key, content, content, only_if_absent)
        size = _size(content)
        if not only_if_absent and size > _ONE_PUT:
            await self._sent(key, lambda: obstore.put(self._bulk, key, content, chunk_size=16 << 20))
            return True
        if size > _MOST_IN_ONE_PUT:
            raise StoreRefused(f"{content}: {size} bytes; an object that is written once may have 5 GiB", "TooLarge")
        if size == 0:
            return await self._put(key, b"", b"", only_if_absent)
        # Not closed by hand: a cancelled upload may still hold its pages, and the last holder frees them.
        return await self._put(key, await asyncio.to_thread(_mapped, content), content, only_if_absent)

    async def _put(self, key: str, body: bytes | mmap.mmap, content: bytes | Path, only_if_absent: bool) -> bool:
        if only_if_absent:
            return await self._put_once(key, body, content)
        await self._sent(key, lambda: obstore.put(self._bulk, key, body, use_multipart=False))
        return True

    async def _put_once(self, key: str, body: bytes | mmap.mmap, content: bytes | Path) -> bool:
        """PUT with `If-None-Match: *`. 412: it exists. 409: two writers met, ask again. A lost answer: ask again, and
        an object of this content is then our own."""
        may_be_ours = False
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
            try:
                await _threads.call(lambda: obstore.put(self._once, key, body, mode="create", use_multipart=False))
                return True
            except (BaseError, OSError) as error:
                if _status(error) == 412:
                    return may_be_ours and await self._holds(key, content)
                failure = self._store_error(key, error)
                if _status(error) != 409:
                    if not isinstance(failure, StoreUnavailable):
                        raise failure from error
                    may_be_ours = True
        raise failure

    async def _holds(self, key: str, content: bytes | Path) -> bool:
        """Whether the object of this key has this very content."""
        found = await self.head(key)
        size = _size(content)
        if found is None or found.size != size:
            return False
        position = 0
        async for piece in self.stream(key):
            if await asyncio.to_thread(_slice, content, position, len(piece)) != piece:
                return False
            position += len(piece)
        return position == size

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        check_prefix(prefix)
        pages = iter(obstore.list(self._quick, prefix or None, chunk_size=1000))
        while (page := await self._next(prefix, pages)) is not None:
            for meta in page:
                yield _stored(meta["path"], meta)

    async def folders(self, prefix: str = "") -> tuple[str, ...]:
        check_prefix(prefix)
        try:
            found = await _threads.call(lambda: obstore.list_with_delimiter(self._quick, prefix or None))
        except (BaseError, OSError) as error:
            raise self._store_error(prefix, error) from error
        return tuple(sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found["common_prefixes"]))

    async def delete(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        for key in wanted:
            check_key(key)
        for start in range(0, len(wanted), 1000):
            batch = wanted[start : start + 1000]
            await self._asked(batch[0], lambda batch=batch: obstore.delete(self._quick, batch))  # type: ignore[misc]

    async def drop_leftovers(self, prefix: str) -> int | None:
        check_prefix(prefix)
        if not self._options.access_key:
            return None
        below = f"{self._prefix}/{prefix}" if self._prefix else prefix
        return await _threads.call(lambda: Uploads(self._bucket, self._options).abort_below(below))

    async def _asked(self, key: str, call: Callable[[], T]) -> T | None:
        """The call's answer, None when the store says that the key holds nothing."""
        try:
            return await _threads.call(call)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise self._store_error(key, error) from error
            return None
        except (BaseError, OSError) as error:
            raise self._store_error(key, error) from error

    async def _next(self, key: str, items: Iterator[T]) -> T | None:
        """The next of a stream that blocks, None at its end."""
        try:
            return await _threads.call(lambda: next(items, None))
        except (BaseError, OSError) as error:
            raise self._store_error(key, error) from error

    async def _sent(self, key: str, call: Callable[[], Any]) -> None:
        try:
            await _threads.call(call)
        except (BaseError, OSError) as error:
            raise self._store_error(key, error) from error

    def _store_error(self, key: str, error: Exception) -> StoreError:
        status, code = _status(error), _code(error)
        where = f"{self._url}: {key}" if key else self._url
        if code == "NoSuchBucket":
            return StoreRefused(f"{where}: there is no bucket {self._bucket!r}; make it, or correct the URL", code)
        if status in _REFUSED_STATUS and code not in _PASSING_CODES:
            answer = f"the store answered {status} {code}".rstrip()
            fix = "; check the credentials and what they allow" if status in (401, 403) else ""
            return StoreRefused(f"{where}: {answer}{fix}", code)
        if status:
            return StoreUnavailable(f"{where}: the store answered {status} {code}".rstrip())
        return StoreUnavailable(f"{where}: {str(error).partition(chr(10))[0][:300]}")


def _raw(bucket: str, prefix: str, options: StoreOptions, *, timeout: int, retries: int) -> RawStore:
    config: dict[str, Any] = {
        "region": options.region,
        "virtual_hosted_style_request": not options.uses_path_style,
        "client_options": {
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=5),
            "allow_http": options.endpoint.startswith("http://"),
        },
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=30)},
    }
    if options.endpoint:
        config["endpoint"] = _endpoint(bucket, options)
        if _knows("aws_endpoint_url_s3"):
            # Else a variable of that name, meant for another store, would win over what we were told.
            config["aws_endpoint_url_s3"] = config["endpoint"]
    if options.access_key:
        config |= {"access_key_id": options.access_key, "secret_access_key": options.secret_key}
    if options.session_token:
        config["session_token"] = options.session_token
    return RawStore(bucket, prefix=prefix or None, **config)


@functools.cache
def _knows(setting: str) -> bool:
    """Whether this obstore has a setting."""
    try:
        RawStore("bucket", region="us-east-1", **{setting: "http://localhost"})  # type: ignore[arg-type]
    except BaseError:
        return False
    return True


def _endpoint(bucket: str, options: StoreOptions) -> str:
    """obstore wants the bucket inside an own endpoint when it is not in the path."""
    endpoint = options.endpoint.rstrip("/")
    if options.uses_path_style:
        return endpoint
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _stored(key: str, meta: Any) -> Stored:
    return Stored(key, meta["size"], meta["last_modified"].timestamp(), (meta["e_tag"] or "").strip('"'))


def _whole(store: RawStore, key: str) -> bytes:
    return bytes(obstore.get(store, key).bytes())


def _range(store: RawStore, key: str, start: int, end: int) -> bytes:
    return bytes(obstore.get_range(store, key, start=start, end=end))


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _slice(content: bytes | Path, start: int, length: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + length]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _status(error: Exception) -> int:
    match = _STATUS.search(str(error))
    return int(match[1]) if match else 0


def _code(error: Exception) -> str:
    match = _CODE.search(str(error))
    return match[1] if match else ""
