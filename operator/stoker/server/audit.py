"""What the server tells its log: one JSON object per line on standard output. No token, grant or URL is ever in it."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from stoker.server.grants import Grant

_audit = logging.getLogger("stoker.audit")


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


def audit(request: Request, event: str, grant: Grant, **fields: Any) -> None:
    """Record that a grant was given or a rank sealed."""
    _audit.info(
        event,
        extra={
            "fields": {
                "requestId": request.scope.get("stoker.request_id", ""),
                "client": request.client.host if request.client else "",
                "namespace": grant.namespace,
                "job": grant.key,
                "attempt": grant.attempt,
                "rank": grant.rank,
                "podUid": grant.pod_uid,
                **fields,
            }
        },
    )
