"""What the server tells its log: one JSON object per line on standard output. No token, grant or URL is ever in it."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from stoker.server.grants import Grant

_audit = logging.getLogger("stoker.audit")
_NOTED = "stoker.audit"


class JsonLines(logging.Formatter):
    """A log record as one line of JSON: time, level, logger, message, and what `extra={"fields": {...}}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stdout(level: str = "INFO") -> None:
    """Send every logger's lines to standard output in this form."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These log requests with their query, where presigned URLs keep their signatures.
    for noisy in ("botocore", "urllib3", "aiohttp.access", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def note(request: Request, event: str = "", **fields: Any) -> None:
    """Say what a request that must be accounted for is about: grant, read, upload, seal, remove. Its line is written
    when it is over, also when it was refused or went wrong; what is noted later is added."""
    noted = request.scope.setdefault(_NOTED, {"client": request.client.host if request.client else ""})
    noted.update({"event": event} if event else {}, **fields)


def note_grant(request: Request, grant: Grant) -> None:
    """Who asks is a pod."""
    note(
        request, namespace=grant.namespace, job=grant.key, attempt=grant.attempt, rank=grant.rank,
        podUid=grant.pod_uid,
    )  # fmt: skip


def write(scope: Scope, status: int, request_id: str) -> None:
    """Write the line of a request that was noted, once. outcome: Done, Gone (the client went before the answer), or why not."""
    fields = scope.pop(_NOTED, None)
    if fields is None:
        return
    ended = {499: "Gone", 500: "InternalError"}.get(status, "Done" if status < 400 else "Refused")
    outcome = scope.get("stoker.reason") or ended
    event = fields.pop("event", "unknown")
    _audit.info(event, extra={"fields": {"requestId": request_id, "outcome": outcome, "status": status, **fields}})
