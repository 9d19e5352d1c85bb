"""The conditions of a job: facts for machines, each with a reason from a fixed set.

SnapshotReady, ImageReady, ComputeReady, PodsReady and OutputsSaved tell how far a run is; Complete and Failed are those
of batch/v1 Job; Ready, Reconciling and Stalled are read by kstatus (Flux, Argo, `kubectl wait`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stoker.api.common import Condition
from stoker.core.conditions import Fact, kstatus, stamped
from stoker.core.plan import Found, Refused, Unavailable
from stoker.core.trainingjob.obstacles import Wait
from stoker.core.trainingjob.preparation import Need
from stoker.core.trainingjob.seen import Seen
from stoker.core.trainingjob.stands import Stand

_SNAPSHOT_OBSTACLES = frozenset({"NoStorage", "StorageUrlTaken"})
_IMAGE_OBSTACLES = frozenset({"EnvironmentNotFound", "EnvironmentWithoutImage"})


def conditions(seen: Seen, stand: Stand, wait: Wait | None, result: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """All conditions, sorted by type."""
    facts = dict(_facts(seen, stand, wait, result))
    return stamped(facts, seen.view.job.status.conditions, seen.view.job.metadata.generation, seen.now)


def _facts(seen: Seen, stand: Stand, wait: Wait | None, result: Mapping[str, Any] | None) -> Iterator[tuple[str, Fact]]:
    yield "SnapshotReady", _snapshot(seen)
    yield "ImageReady", _image(seen)
    yield "ComputeReady", _compute(seen, wait)
    yield "PodsReady", _pods(seen, wait, result)
    yield "OutputsSaved", _outputs(seen)
    yield from _suspended(seen, result)
    if result is not None:
        yield from _ended(result)
    else:
        yield from _going(seen, stand, wait)


def _ended(result: Mapping[str, Any]) -> Iterator[tuple[str, Fact]]:
    reason, message = str(result.get("reason") or "Failed"), str(result.get("message") or "")
    good = result.get("phase") == "Completed"
    yield "Complete" if good else "Failed", ("True", reason, message)
    # A run that failed or was canceled never changes again: without Stalled, kstatus would wait for ever.
    yield from kstatus(good, reason, message, stalled=not good).items()


def _going(seen: Seen, stand: Stand, wait: Wait | None) -> Iterator[tuple[str, Fact]]:
    reason = wait.reason if wait else stand.phase
    message = wait.message if wait else ""
    ranks = seen.attempt.ranks if seen.attempt else ()
    if any(rank.started is not None or rank.done for rank in ranks):
        yield from kstatus(True, stand.phase, message).items()
    else:
        yield from kstatus(False, reason, message, stalled=wait is not None and wait.yours).items()


def _suspended(seen: Seen, result: Mapping[str, Any] | None) -> Iterator[tuple[str, Fact]]:
    """As batch/v1 Job has it: True while nothing may run; False since it was resumed; not there where it never was."""
    if seen.suspend and seen.attempt is None and result is None:
        yield "Suspended", ("True", "Suspended", "spec.suspend is true")
    elif any(entry.type == "Suspended" for entry in seen.view.job.status.conditions):
        yield "Suspended", ("False", "Ended" if result is not None else "Resumed", "")


def _snapshot(seen: Seen) -> Fact:
    if seen.obstacle is not None and seen.obstacle.reason in _SNAPSHOT_OBSTACLES and seen.attempt is None:
        return "False", seen.obstacle.reason, seen.obstacle.message
    if seen.attempt is not None:
        return "True", "Stored", ""
    blocked = [need for need in seen.preparation.inputs.values() if not need.known]
    return _of_need(
        seen.preparation.snapshot if seen.preparation.snapshot.answer is None or not blocked else blocked[0]
    )


def _image(seen: Seen) -> Fact:
    if seen.attempt is not None:
        return "True", "Pinned", ""
    if seen.obstacle is not None and seen.obstacle.reason in _IMAGE_OBSTACLES:
        return "False", seen.obstacle.reason, seen.obstacle.message
    status, reason, message = _of_need(seen.preparation.image)
    if status != "True":
        return status, reason, message
    found = seen.preparation.environment
    image = found.image if found is not None else None
    if image is None or image.source == "given":
        return "True", "Pinned", ""
    how = f"built in {image.build_seconds} s" if image.source == "built" else f"found in the {image.source} registry"
    return "True", "Pinned", how


def _of_need(need: Need) -> Fact:
    if isinstance(need.answer, Found):
        return "True", "Stored", ""
    if isinstance(need.answer, Refused | Unavailable):
        return "False", need.answer.reason, need.answer.message
    return "Unknown", "LookingUp", ""


def _compute(seen: Seen, wait: Wait | None) -> Fact:
    if seen.in_queue and wait is not None:
        return "False", wait.reason, wait.message
    if seen.attempt is not None or seen.granted:
        return "True", "NodesAssigned", ""
    if seen.obstacle is not None:
        return "False", seen.obstacle.reason, seen.obstacle.message
    if seen.preparation.ready and wait is not None:
        return "False", wait.reason, wait.message
    return "Unknown", "NotAskedYet", ""


def _pods(seen: Seen, wait: Wait | None, result: Mapping[str, Any] | None) -> Fact:
    if result is not None:
        return "False", "Ended", ""
    if seen.attempt is None:
        return "False", "NotCreated", ""
    ranks = seen.attempt.ranks
    if all(rank.done or rank.saving for rank in ranks):
        return "False", "CommandEnded", ""
    if all(rank.started is not None or rank.done for rank in ranks):
        return "True", "AllStarted", ""
    return "False", wait.reason if wait else "PodsStarting", wait.message if wait else ""


def _outputs(seen: Seen) -> Fact:
    if seen.attempt is None:
        return "Unknown", "NotStarted", ""
    ranks = seen.attempt.ranks
    if seen.attempt.sealed:
        bad = next((rank for rank in ranks if (rank.seal or {}).get("complete") is not True), None)
        if bad is None:
            return "True", "Sealed", ""
        seal = bad.seal or {}
        return "False", str(seal.get("reason") or "OutputsNotSaved"), str(seal.get("message") or "")
    if all(rank.done or rank.saving for rank in ranks):
        return "False", "Saving", ""
    return "Unknown", "NotEndedYet", ""
