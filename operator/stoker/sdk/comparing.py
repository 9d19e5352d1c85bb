"""What is compared of two runs, from wherever each of them is kept."""

import json
from collections.abc import Mapping
from typing import Any

from stoker.core.rundiff import RunFacts
from stoker.errors import StokerError
from stoker.runtime.wire import WireError, decode_manifest
from stoker.sdk.runrecords import LocalRun, Run, record_of


def facts_of(found: Run) -> RunFacts:
    """A run's record, the files of its code and its packages. What cannot be read is None."""
    record = record_of(found)
    job = record["job"]
    return RunFacts(job, record.get("result"), _files(found, job), _packages(found, job))


def _files(found: Run, job: Mapping[str, Any]) -> dict[str, str] | None:
    digest = job.get("snapshot")
    if not digest:
        return {}
    content = found.kept.manifest(digest) if isinstance(found, LocalRun) else _from_server(found, digest)
    try:
        entries = decode_manifest(content) if content is not None else None
    except WireError:
        return None
    if entries is None:
        return None
    return {one.path: one.sha256 + (" executable" if one.executable else "") for one in entries}


def _from_server(found: Any, digest: str) -> bytes | None:
    try:
        content: bytes | None = found.cluster.server().manifest(digest)
        return content
    except StokerError:
        return None  # a server of before this was there: the digests are compared instead


def _packages(found: Run, job: Mapping[str, Any]) -> dict[str, str] | None:
    """name -> version, from the lock of the run's environment."""
    told = job.get("environment") or {}
    if isinstance(found, LocalRun):
        from stoker.local.environments.known import locked

        return locked(str(told.get("definitionKey") or ""), str(told.get("lockKey") or ""))
    if not told.get("specKey"):
        return None
    try:
        content = found.cluster.server().lock(str(told["specKey"]))
    except StokerError:
        return None
    document = json.loads(content) if content is not None else {}
    if document.get("lockKey") not in (None, told.get("lockKey")):
        return None  # built anew since: the lock of another image
    return {str(one["name"]): str(one["version"]) for one in document.get("packages") or ()} or None
