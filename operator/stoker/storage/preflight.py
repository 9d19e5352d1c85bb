"""Which promises hold on an object store: asked of the store itself, with objects that are removed again.

What a store's makers say is not enough: several that speak S3 take a conditional write, a signed length or a signed
checksum, and do not enforce it (docs/explanation/security.md). So each promise is tried both ways where that is possible: what is
allowed must work, and what is not must be refused and change nothing.
"""

import asyncio
import base64
import hashlib
import http.client
import importlib.util
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from stoker.core.times import rfc3339
from stoker.storage.objects import (
    ObjectStore,
    StoreError,
    StoreOptions,
    StoreRefused,
    StoreUnavailable,
    open_store,
    split_s3_url,
)
from stoker.storage.threads import Threads

if TYPE_CHECKING:
    from stoker.storage.signing import Part, Signed, Signer

T = TypeVar("T")

#: Everything is written below this folder of the store's URL, in a folder of its own.
FOLDER = ".stoker-preflight"
#: Clocks may differ by so much (seconds). S3 refuses every request from 900 on, and signed URLs live for 900.
MOST_SKEW = 300.0
#: A store that has not answered everything in this time counts as away (seconds); and how long its clean-up may take.
WITHIN_SECONDS, CLEAN_UP_SECONDS = 120.0, 30.0
#: Longest wait for one answer to a signed request (seconds).
_ANSWER_SECONDS = 20.0

#: Probe -> what is lost where it does not hold. The order is the one in which they are asked.
PROMISES = {
    "clock": "without it signed URLs end early or live too long, and at 15 minutes S3 refuses every request",
    "conditional-put": "without it a second writer replaces a record, a seal or a snapshot that is there",
    "list": "without it Stoker finds neither the files of a run nor the runs of a namespace",
    "signed-put": "without it pods and people can store nothing but through Stoker's server",
    "signed-length": "without it the holder of a signed URL stores more bytes than were granted",
    "signed-sha256": "without it a file that was damaged or changed on its way is stored as if it were whole",
    "signed-key": "without it the holder of a signed URL writes objects that are not its own",
    "signed-condition": "without it a signed URL that is sent again replaces what was stored with it",
    "if-match": "without it two writers of one growing file replace each other's bytes unseen",
    "multipart": "without it files above 5 GiB cannot be stored",
    "multipart-abort": "without it the parts of uploads that were given up stay, unseen and paid for",
    "conditional-complete": "without it an upload in parts replaces a file that is there, and nothing can forbid it",
    "delete": "without it nothing that Stoker stored can be removed again",
}
_SIGNED = ("signed-put", "signed-length", "signed-sha256", "signed-key", "signed-condition", "if-match")
_PARTS = ("multipart", "multipart-abort", "conditional-complete")
_RANDOM = re.compile(r"[0-9A-Za-z-]{8,64}\Z")

#: Calls of boto3 and signed requests: daemon threads, so that a silent store does not keep the process.
_threads = Threads(4)

Verdict = tuple[bool | None, str]


@dataclass(frozen=True, slots=True)
class Probe:
    """One promise. holds: None when it could not be told. detail: what the store did. promise: what is lost without it,
    as a sentence that begins with `without it`."""

    name: str
    holds: bool | None
    detail: str
    promise: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known of a store. unreachable: why it could not be used at all, with what to do; then the probes are those
    that were answered before."""

    url: str
    probes: tuple[Probe, ...] = ()
    unreachable: str = ""

    @property
    def missing(self) -> tuple[Probe, ...]:
        """The promises that are broken, or could not be shown to hold."""
        return tuple(probe for probe in self.probes if probe.holds is not True)


async def check_store(
    url: str,
    random: str,
    options: StoreOptions | None = None,
    *,
    clock: Callable[[], float] = time.time,
    seconds: float = WITHIN_SECONDS,
    told: Callable[[Probe], None] = lambda probe: None,
) -> Preflight:
    """Try every promise of the store at `url`. Raises BadStoreUrl; whatever the store does becomes a Probe.

    random: names the folder below FOLDER that is written to; nobody else may use the same. All that was written is removed,
    also after a failure or when cancelled. options: None = from the environment. clock: seconds since the epoch. told:
    called with each probe as it is known.
    """
    if not _RANDOM.match(random):
        raise ValueError(f"random={random!r}: 8 to 64 letters, digits and dashes")
    options = options if options is not None else StoreOptions.from_env()
    store = open_store(url, options)
    trial = _Trial(store, options, f"{FOLDER}/{random}/", clock, told)
    try:
        async with asyncio.timeout(seconds):
            unreachable = await trial.run()
    except TimeoutError:
        unreachable = (
            f"{store.url}: did not answer everything within {seconds:.0f} s; see whether the object store is well"
        )
    finally:
        left = await trial.clean_up()
    if unreachable:
        return Preflight(store.url, tuple(trial.probes), f"{unreachable}{f'; {left}' if left else ''}")
    trial.tell("delete", (not left, left or "everything that was written here was removed"))
    return Preflight(store.url, tuple(trial.probes))


class _Trial:
    """One run against one store. Everything that it writes is noted before it is sent."""

    def __init__(
        self,
        store: ObjectStore,
        options: StoreOptions,
        prefix: str,
        clock: Callable[[], float],
        told: Callable[[Probe], None],
    ) -> None:
        self.probes: list[Probe] = []
        self._store, self._options, self._prefix, self._clock, self._told = store, options, prefix, clock, told
        self._keys: list[str] = []
        self._uploads: list[tuple[str, str]] = []
        self._signer: Signer | None = None
        self._step: asyncio.Future[Any] | None = None

    def tell(self, name: str, verdict: Verdict) -> None:
        probe = Probe(name, *verdict, PROMISES[name])
        self.probes.append(probe)
        self._told(probe)

    async def run(self) -> str:
        """Every probe but the last; returns why the store cannot be used, or an empty text."""
        is_s3 = self._store.url.startswith("s3://")
        if is_s3:
            await self._probe("clock", self._clocks)
        try:
            # Unconditional and through the ordinary way: what fails here is the way to the store, no promise of it.
            await self._whole(self._store.put(self._key("plain"), b"plain"))
        except StoreError as error:
            late = [probe.detail for probe in self.probes if probe.holds is False]
            return "; ".join([str(error), *late])
        await self._probe("conditional-put", self._conditional_put)
        await self._probe("list", self._list)
        if is_s3:
            await self._signed_probes()
        gone = [probe for probe in self.probes if probe.holds is None and probe.name != "clock"]
        return await self._still_there() if gone else ""

    async def _still_there(self) -> str:
        """A promise that could not be told may mean that the store has gone."""
        try:
            await self._store.head(self._key("plain"))
        except StoreUnavailable as error:
            return f"went away while it was asked: {error}"
        except StoreRefused:
            return ""  # it answers
        return ""

    async def _signed_probes(self) -> None:
        if sys.modules.get("boto3", ...) is None or importlib.util.find_spec("boto3") is None:
            why = "signed URLs are made with boto3, which is not installed: pip install 'stoker[server]'"
            self._untold((*_SIGNED, *_PARTS), why)
            return
        from stoker.storage.signing import Signer

        self._signer = Signer(self._store.url, self._options)
        await self._probe("signed-put", self._signed_put)
        if self.probes[-1].holds is not True:
            self._untold((*_SIGNED[1:], *_PARTS), "cannot be tried where signed URLs do not work")
            return
        await self._probe("signed-length", self._signed_length)
        await self._probe("signed-sha256", self._signed_sha256)
        await self._probe("signed-key", self._signed_key)
        await self._probe("signed-condition", self._signed_condition)
        await self._probe("if-match", self._if_match)
        await self._probe("multipart", self._multipart)
        if self.probes[-1].holds is not True:
            self._untold(_PARTS[1:], "cannot be tried where uploads in parts do not work")
            return
        await self._probe("multipart-abort", self._multipart_abort)
        await self._probe("conditional-complete", self._conditional_complete)

    def _untold(self, names: Sequence[str], why: str) -> None:
        for name in names:
            self.tell(name, (None, why))

    async def _probe(self, name: str, ask: Callable[[], Coroutine[Any, Any, Verdict]]) -> None:
        try:
            verdict = await self._whole(ask())
        except StoreUnavailable as error:
            verdict = (None, f"could not be told: {error}")
        except StoreError as error:
            verdict = (False, str(error))
        self.tell(name, verdict)

    async def _whole(self, step: Coroutine[Any, Any, T]) -> T:
        """The step's result. One that is cut off goes on unheard: what it writes must be known before the clean-up."""
        self._step = task = asyncio.ensure_future(step)
        return await asyncio.shield(task)

    async def _settled(self) -> None:
        """Wait for a step that was cut off, as long as that makes sense."""
        if self._step is None or self._step.done():
            return
        await asyncio.wait((self._step,), timeout=CLEAN_UP_SECONDS / 2)
        if not self._step.done():
            self._step.cancel()
        elif not self._step.cancelled():
            self._step.exception()  # looked at: nobody else will

    # -- Through the store.

    async def _clocks(self) -> Verdict:
        before = self._clock()
        _, headers = await self._call(_endpoint(self._store.url, self._options), "HEAD")
        ours = (before + self._clock()) / 2
        try:
            theirs = parsedate_to_datetime(headers.get("Date") or "").timestamp()
        except ValueError:
            return None, "the store's answer has no Date"
        skew = abs(theirs - ours)
        if skew <= MOST_SKEW:
            return True, f"{skew:.0f} s apart"
        times = f"here it is {rfc3339(ours)}, at the store {rfc3339(theirs)}"
        return False, f"{times}: {skew:.0f} s apart, {MOST_SKEW:.0f} are allowed; set the clock that is wrong"

    async def _conditional_put(self) -> Verdict:
        key = self._key("once")
        if not await self._store.put(key, b"first", only_if_absent=True):
            return False, "refused a conditional PUT of an object that was not there"
        if await self._store.put(key, b"other", only_if_absent=True):
            return False, "took a PUT with If-None-Match: * over an object that was there"
        if await self._store.get(key) != b"first":
            return False, "answered 412 to a conditional PUT and changed the object all the same"
        return True, "the second of two writers got 412"

    async def _list(self) -> Verdict:
        found = {stored.key: stored.size async for stored in self._store.list(self._prefix)}
        if found.get(self._key("plain")) != len(b"plain"):
            return False, f"the list of {self._prefix} lacks an object that was just written"
        return True, "an object was listed right after it was written"

    # -- By signed URLs.

    async def _signed_put(self) -> Verdict:
        key = self._key("signed")
        status, _ = await self._put(await self._sign(key, b"hello"), b"hello")
        if status >= 300 or await self._store.get(key) != b"hello":
            return False, f"answered {status} to a PUT with a signed URL"
        return True, "a signed URL stored its object"

    async def _signed_length(self) -> Verdict:
        # The digest fits the body, so that it is the length alone that can be refused.
        key, body = self._key("length"), b"hello, world"
        signed = await self._sign(key, body, size=len(b"hello"))
        return await self._refuses(key, _with(signed, **{"Content-Length": str(len(body))}), body, None, "more bytes")

    async def _signed_sha256(self) -> Verdict:
        key = self._key("sha256")
        signed = await self._sign(key, b"hello")
        verdict = await self._refuses(key, signed, b"HELLO", None, "other bytes")
        if verdict[0] is not True:
            return verdict
        other = (await self._sign(key, b"HELLO")).headers["x-amz-checksum-sha256"]
        changed = _with(signed, **{"x-amz-checksum-sha256": other})
        return await self._refuses(key, changed, b"HELLO", None, "another SHA-256")

    async def _signed_key(self) -> Verdict:
        key, other = self._key("mine"), self._key("yours")
        signed = await self._sign(key, b"hello")
        status, _ = await self._put(signed, b"hello")
        if status >= 300:
            return None, f"answered {status} to the signed PUT that was to be sent to another key"
        moved = signed._replace(url=signed.url.replace(key, other))
        return await self._refuses(other, moved, b"hello", None, "another key")

    async def _signed_condition(self) -> Verdict:
        key = self._key("signed-once")
        await self._store.put(key, b"first")
        signed = await self._sign(key, b"other", only_if_absent=True)
        verdict = await self._refuses(key, signed, b"other", b"first", "If-None-Match: * over an object")
        if verdict[0] is not True:
            return verdict
        bare = {name: value for name, value in signed.headers.items() if name != "If-None-Match"}
        return await self._refuses(key, signed._replace(headers=bare), b"other", b"first", "the condition left out")

    async def _if_match(self) -> Verdict:
        key = self._key("match")
        await self._store.put(key, b"first")
        stale = await self._sign(key, b"other", if_match="0" * 32)
        verdict = await self._refuses(key, stale, b"other", b"first", "If-Match of another etag")
        stored = await self._store.head(key)
        if verdict[0] is not True or stored is None:
            return verdict
        status, _ = await self._put(await self._sign(key, b"other", if_match=stored.etag), b"other")
        if status >= 300 or await self._store.get(key) != b"other":
            return False, f"answered {status} to a PUT with the right If-Match"
        return verdict

    async def _multipart(self) -> Verdict:
        key = self._key("parts")
        upload, part = await self._part(key, b"hello")
        await self._ask(lambda signer: signer.complete_upload(key, upload, [part]))
        self._uploads.remove((key, upload))
        if await self._store.get(key) != b"hello":
            return False, "completed an upload in parts without its content"
        return True, "an upload in parts became its object"

    async def _multipart_abort(self) -> Verdict:
        key = self._key("aborted")
        upload, _ = await self._part(key, b"hello")
        await self._ask(lambda signer: signer.abort_upload(key, upload))
        status, _ = await self._put(await self._sign_part(key, upload, b"hello"), b"hello")
        if status < 300:
            return False, "took a part of an upload after its abort"
        if await self._store.head(key) is not None:
            return False, "made an object of an upload that was aborted"
        self._uploads.remove((key, upload))
        return True, "an aborted upload and its part are gone"

    async def _conditional_complete(self) -> Verdict:
        key = self._key("completed-once")
        await self._store.put(key, b"first")
        upload, part = await self._part(key, b"other")
        status = await self._complete_if_absent(key, upload, part)
        if await self._store.get(key) != b"first" or status < 300:
            return False, f"answered {status} to a Complete with If-None-Match: * over an object and replaced it"
        if status != 412:
            return False, f"answered {status} to a Complete with If-None-Match: *, not 412"
        return True, "a Complete over an object got 412"

    async def _complete_if_absent(self, key: str, upload: str, part: "Part") -> int:
        """The status of the answer. Stoker's own Complete carries no condition, so boto3 is asked itself."""
        from botocore.exceptions import ClientError

        from stoker.storage.signing import s3_client

        bucket, folder = split_s3_url(self._store.url)
        digest = base64.b64encode(bytes.fromhex(part.sha256)).decode()
        parts = [{"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": digest}]

        def complete() -> int:
            try:
                s3_client(self._options).complete_multipart_upload(
                    Bucket=bucket, Key=f"{folder}/{key}".lstrip("/"), UploadId=upload,
                    MultipartUpload={"Parts": parts}, IfNoneMatch="*",
                )  # fmt: skip
            except ClientError as error:
                return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            return 200

        return await self._called(complete)

    async def _part(self, key: str, content: bytes) -> "tuple[str, Part]":
        """Start an upload and send its one part; raises StoreRefused when the part is refused."""
        from stoker.storage.signing import Part

        upload = await self._ask(lambda signer: signer.create_upload(key))
        self._uploads.append((key, upload))
        status, headers = await self._put(await self._sign_part(key, upload, content), content)
        if status >= 300:
            raise StoreRefused(f"{self._store.url}: {key}: answered {status} to a part with a signed URL")
        return upload, Part(1, headers.get("ETag") or "", hashlib.sha256(content).hexdigest())

    async def _refuses(self, key: str, signed: "Signed", body: bytes, there: bytes | None, what: str) -> Verdict:
        """Whether a request that must not work is refused and leaves the object as it was."""
        status, _ = await self._put(signed, body)
        if status < 300:
            return False, f"answered {status} to a signed PUT with {what}"
        if await self._store.get(key) != there:
            return False, f"answered {status} to a signed PUT with {what} and stored it all the same"
        if status >= 500:
            return None, f"answered {status} to a signed PUT with {what}"
        return True, f"answered {status} to a signed PUT with {what}"

    # -- The ways to the store.

    def _key(self, name: str) -> str:
        """A key of ours, noted as one to remove."""
        key = self._prefix + name
        if key not in self._keys:
            self._keys.append(key)
        return key

    async def _sign(
        self, key: str, body: bytes, size: int | None = None, *, only_if_absent: bool = False, if_match: str = ""
    ) -> "Signed":
        digest = hashlib.sha256(body).hexdigest()
        length = len(body) if size is None else size
        return await self._ask(
            lambda signer: signer.put(key, length, digest, only_if_absent=only_if_absent, if_match=if_match)
        )

    async def _sign_part(self, key: str, upload: str, body: bytes) -> "Signed":
        digest = hashlib.sha256(body).hexdigest()
        return await self._ask(lambda signer: signer.put_part(key, upload, 1, len(body), digest))

    async def _ask(self, ask: "Callable[[Signer], T]") -> T:
        signer = self._signer
        assert signer is not None, "signed probes come after the signer"
        return await self._called(lambda: ask(signer))

    async def _called(self, call: Callable[[], T]) -> T:
        """What boto3 answers; its own troubles (no credentials, no connection) as a StoreError."""
        from botocore.exceptions import BotoCoreError

        try:
            return await _threads.call(call)
        except BotoCoreError as error:
            raise StoreUnavailable(f"{self._store.url}: {error}") from error

    async def _put(self, signed: "Signed", body: bytes) -> "tuple[int, Message[str, str]]":
        return await self._call(signed.url, "PUT", body, signed.headers)

    async def _call(
        self, url: str, method: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> "tuple[int, Message[str, str]]":
        try:
            return await _threads.call(lambda: _answer(url, method, body, headers or {}))
        except (OSError, http.client.HTTPException) as error:
            # No URL in the message: a signed one is a credential.
            raise StoreUnavailable(f"{self._store.url}: {getattr(error, 'reason', error)}") from error

    # -- The end.

    async def clean_up(self) -> str:
        """Remove everything that was written; returns what may be left and why, or an empty text."""
        where = f"what lies below {self._store.url}/{self._prefix} is to be removed by hand"
        if not self._keys:
            return ""
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await self._settled()
                for key, upload in tuple(self._uploads):
                    await self._ask(lambda signer, key=key, upload=upload: signer.abort_upload(key, upload))  # type: ignore[misc]
                await self._store.delete(self._keys)
                left = [key for key in self._keys if await self._store.head(key) is not None]
        except TimeoutError:
            return f"the clean-up took longer than {CLEAN_UP_SECONDS:.0f} s: {where}"
        except StoreError as error:
            return f"{error}: {where}"
        return f"the store kept {', '.join(left)} after they were deleted: {where}" if left else ""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """A signed request is for one host: what sends it elsewhere has not answered it."""
        return


def _answer(url: str, method: str, body: bytes | None, headers: dict[str, str]) -> "tuple[int, Message[str, str]]":
    request = urllib.request.Request(url, body, {"Content-Type": "application/octet-stream", **headers}, method=method)
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_ANSWER_SECONDS) as answer:
            answer.read()
            return int(answer.status), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            error.read()
            return error.code, error.headers


def _endpoint(url: str, options: StoreOptions) -> str:
    """Where the bucket answers, for a request that nobody signed."""
    bucket, _ = split_s3_url(url)
    endpoint = options.endpoint.rstrip("/") or f"https://s3.{options.region}.amazonaws.com"
    if options.uses_path_style:
        return f"{endpoint}/{bucket}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _with(signed: "Signed", **headers: str) -> "Signed":
    return signed._replace(headers={**signed.headers, **headers})
