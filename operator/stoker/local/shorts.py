"""The short form of runs that have ended, remembered on this machine: an ended run does not change, so a list of thousands need
not read thousands of records. Losing the file costs time alone.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stoker.core.record import SHORT_JOB, SHORT_RESULT
from stoker.storage.hashing import cache_folder

#: Of a failure the message has the end of a log; a list shows none of it.
_MOST_MESSAGE = 300


def short(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a list shows of a run's record."""
    job, result = record["job"], record["result"]
    told = {name: job.get(name) for name in SHORT_JOB}
    ended = {name: result.get(name) for name in SHORT_RESULT} if result else None
    if ended and isinstance(ended["message"], str):
        ended["message"] = ended["message"][:_MOST_MESSAGE]
    return {"key": record["key"], "job": told, "result": ended}


def remembered(url: str) -> dict[str, dict[str, Any]]:
    """Ended runs of a store by key; none where nothing was kept, or it cannot be read."""
    try:
        content = _file(url).read_bytes()
    except OSError:
        return {}
    decoder = msgspec.json.Decoder(dict[str, Any])
    try:
        lines = decoder.decode_lines(content)
    except msgspec.MsgspecError:
        # A process that was killed may have left a line cut off: then one by one.
        lines = []
        for line in content.splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                lines.append(decoder.decode(line))
    return {one["key"]: one for one in lines if "key" in one}


def remember(url: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Add ended runs. A machine that cannot write them lists more slowly."""
    content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    if not content:
        return
    file = _file(url)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # A line of its own also behind one that was cut off.
            os.write(descriptor, b"\n" + content)
        finally:
            os.close(descriptor)


def _file(url: str) -> Path:
    return cache_folder().parent / "runs" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.jsonl"
