"""The bodies that the server takes, checked: a wrong one is refused by field, value and fix before anything happens."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from stoker.runtime import wire
from stoker.server.errors import Refusal
from stoker.server.limits import hold
from stoker.storage import layout

T = TypeVar("T")

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, msgspec.Meta(ge=0, le=5 << 40)]
#: S3 takes at most 5 GiB in one PUT or one part.
PutSize = Annotated[int, msgspec.Meta(ge=0, le=5 << 30)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
UploadId = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
PartNumber = Annotated[int, msgspec.Meta(ge=1, le=wire.MAX_PARTS)]

#: Longest bodies, in bytes: of an ordinary request, and of a request to seal a rank with its whole list of files.
BODY_BYTES, SEAL_BYTES = 4 << 20, 64 << 20
#: A body of which not one byte comes for so long (seconds) is given up.
SILENCE_SECONDS = 60.0


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    pass


class GrantBody(_Body, frozen=True):
    protocol: int


class Granted(_Body, frozen=True):
    """What every call under a grant starts with."""

    grant: str


class ReadsBody(Granted, frozen=True):
    keys: Annotated[list[Text], msgspec.Meta(max_length=wire.MAX_SIGNED_OBJECTS)]


class FileBody(_Body, frozen=True):
    path: Text
    size: PutSize
    sha256: Sha256


class WritesBody(Granted, frozen=True):
    objects: Annotated[list[FileBody], msgspec.Meta(max_length=wire.MAX_SIGNED_OBJECTS)]


class SignPart(_Body, frozen=True):
    number: PartNumber
    size: PutSize
    sha256: Sha256


class DonePart(_Body, frozen=True):
    number: PartNumber
    etag: Annotated[str, msgspec.Meta(max_length=256)]
    sha256: Sha256


class Create(Granted, frozen=True, tag="create", tag_field="action"):
    path: Text


class SignParts(Granted, frozen=True, tag="sign", tag_field="action"):
    path: Text
    upload_id: UploadId
    parts: Annotated[list[SignPart], msgspec.Meta(max_length=wire.MAX_SIGNED_OBJECTS)]


class Complete(Granted, frozen=True, tag="complete", tag_field="action"):
    path: Text
    upload_id: UploadId
    parts: Annotated[list[DonePart], msgspec.Meta(min_length=1, max_length=wire.MAX_PARTS)]


class Abort(Granted, frozen=True, tag="abort", tag_field="action"):
    path: Text
    upload_id: UploadId


MultipartBody = Create | SignParts | Complete | Abort


class SealFile(_Body, frozen=True):
    path: Text
    size: Size
    sha256: Sha256


class SealMissing(_Body, frozen=True):
    path: Text
    size: Size
    reason: Annotated[str, msgspec.Meta(max_length=1024)]


class SealBody(Granted, frozen=True):
    exit: dict[str, Any] | None
    files: list[SealFile]
    missing: list[SealMissing] = []
    skipped: Annotated[
        list[dict[str, Annotated[str, msgspec.Meta(max_length=4096)]]], msgspec.Meta(max_length=10_000)
    ] = []


class SnapshotBody(_Body, frozen=True):
    size: PutSize
    sha256: Sha256


async def body(request: Request, kind: Any, most: int = BODY_BYTES) -> Any:
    """The request's JSON body as `kind`; raises Refusal 400 or 413."""
    content = await content_of(request, most)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise Refusal(400, "BadRequest", f"the body is refused: {error}") from None


async def content_of(request: Request, most: int) -> bytes:
    """The whole body, at most `most` bytes; raises Refusal 413."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    pieces, size = [], 0
    async for piece in pieces_of(request):
        size += len(piece)
        if size > most:
            raise _too_large(most)
        hold(request.scope, len(piece))
        pieces.append(piece)
    return b"".join(pieces)


async def pieces_of(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Refusal 400 when it ends early, 408 when nothing comes for SILENCE_SECONDS."""
    stream, size = request.stream(), 0
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), SILENCE_SECONDS)
        except StopAsyncIteration:
            return
        except TimeoutError:
            message = f"no byte of the body came for {SILENCE_SECONDS:g} s, after {size}: send it again"
            raise Refusal(408, "TooSlow", message) from None
        except ClientDisconnect:
            raise Refusal(400, "BadRequest", f"the body ended early, after {size} bytes: send it again") from None
        size += len(piece)
        yield piece


def rank_path(path: str) -> str:
    """A path that a rank may write; raises Refusal 400 with the path and the rule."""
    problem = wire.path_problem(path) or layout.rank_path_problem(path)
    if problem is None and len(path.encode()) > wire.MAX_PATH_BYTES:
        problem = f"the path is longer than {wire.MAX_PATH_BYTES} bytes"
    if problem:
        raise Refusal(400, "BadPath", f"path {path!r}: {problem}")
    return path


def _too_large(most: int) -> Refusal:
    return Refusal(413, "TooLarge", f"the body has more than {most} bytes; send less at a time")
