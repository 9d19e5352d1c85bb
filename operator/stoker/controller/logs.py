"""Log lines as JSON, one per line, each with the key that was being worked on."""

import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

import msgspec

#: The key that this task works on, for every line it logs.
WORKING_ON: ContextVar[str] = ContextVar("working_on", default="")


class JsonFormatter(logging.Formatter):
    """time (RFC 3339, UTC), level, logger, message, and key and error where there are such."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if key := WORKING_ON.get():
            line["key"] = key
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure_logs(level: str) -> None:
    """Send every logger's lines to standard error as JSON; quieten those that log each object or request."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.engines").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.captureWarnings(True)
