"""What the server answers when the answer is no: one JSON shape, and a reason that programs can tell apart."""

import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.kube.errors import KubeError
from stoker.kube.errors import Unavailable as KubeUnavailable
from stoker.storage.layout import LayoutError
from stoker.storage.objects import NoSuchObject, StoreError, StoreUnavailable
from stoker.storage.snapshots import SnapshotCorrupt

#: What clients wait at least before they ask again (seconds).
RETRY_AFTER = 2


class Refusal(Exception):
    """An answer other than 2xx. reason: CamelCase. message: with the fix. more: further members of the answer.
    retry_after: with 429 and 503, seconds after which it is worth asking again."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        more: Mapping[str, Any] | None = None,
        retry_after: float = RETRY_AFTER,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.more = status, reason, message, dict(more or {})
        self.retry_after = retry_after

    def response(self, request_id: str = "") -> Response:
        return error_response(self.status, self.reason, self.message, request_id, self.more, self.retry_after)


def error_response(
    status: int,
    reason: str,
    message: str,
    request_id: str = "",
    more: Mapping[str, Any] | None = None,
    retry_after: float = RETRY_AFTER,
) -> Response:
    body = {**(more or {}), "error": {"reason": reason, "message": message, "requestId": request_id}}
    headers = {"Retry-After": str(max(1, math.ceil(retry_after)))} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers)


def refusal_for(error: Exception) -> Refusal:
    """The answer to an error that came up on the way. What waiting may mend is 503 with Retry-After."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, KubeError):
        kind = "ApiServerUnavailable" if isinstance(error, KubeUnavailable) else "ApiServerRefused"
        # Rejected means that the server's own rights are too small: an admin can mend that while clients wait.
        return Refusal(503, kind, f"the API server: {error.message}")
    if isinstance(error, StoreUnavailable):
        return Refusal(503, "StoreUnavailable", str(error))
    if isinstance(error, NoSuchObject):
        return Refusal(404, "NotFound", str(error))
    if isinstance(error, SnapshotCorrupt):
        return Refusal(409, "SnapshotCorrupt", str(error))
    if isinstance(error, StoreError):
        return Refusal(502, "StoreRefused", str(error))
    if isinstance(error, LayoutError):
        return Refusal(400, "BadName", str(error))
    raise error


async def on_refusal(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for all of these."""
    return refusal_for(error).response(request.scope.get("stoker.request_id", ""))


async def on_crash(request: Request, error: Exception) -> Response:
    """For what nobody foresaw: the log has the story under the request's id, the client has the id."""
    request_id = request.scope.get("stoker.request_id", "")
    return error_response(
        500, "InternalError", "the server failed; its log has the story under this requestId", request_id
    )
