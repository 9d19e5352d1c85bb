"""The plan of one build: its log is kept as it runs and for ever after, and its Jobs go when nobody wants them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.api import names
from stoker.core import times
from stoker.core.environment import builds
from stoker.core.environment.builds import Build, Try
from stoker.core.plan import (
    Action,
    Answer,
    Ask,
    BuildLog,
    Delete,
    LockCopy,
    Plan,
    Question,
    RegistryPlace,
    ask_again_at,
    is_due,
)

#: A build that nobody wants goes after so long, in seconds.
UNWANTED_SECONDS = 60.0
#: The log is copied so often while the build runs, in seconds.
LOG_EVERY = 3.0
#: A log that could not be copied keeps nothing for longer, in seconds.
LOG_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class UpkeepView:
    """A build of a namespace. unwanted_since: since when nobody wants it (seconds since the epoch); None: someone does.
    registry: the namespace's own; None where it has none by now."""

    namespace: str
    label: str
    build: Build = field(default_factory=Build)
    unwanted_since: float | None = None
    registry: RegistryPlace | None = None
    answers: Mapping[Question, Answer] = field(default_factory=dict)


def plan(view: UpkeepView, now: float) -> Plan[None]:
    """Copy what is to be kept, then delete what is not wanted."""
    actions: list[Action] = []
    wakes: list[float | None] = []
    kept = True
    found = builds.tries(view.build)
    for one in found:
        for question in _questions(view, one, now, last=one is found[-1]):
            answer = view.answers.get(question)
            actions += [Ask(question)] if is_due(answer, now) else []
            wakes.append(ask_again_at(answer, now))
            kept = kept and (answer is not None or one.result is None or _is_late(one, now))
        if one.result is None:
            wakes.append((now // LOG_EVERY + 1) * LOG_EVERY)
    if view.unwanted_since is not None and found:
        goes_at = view.unwanted_since + UNWANTED_SECONDS
        if now < goes_at:
            wakes.append(goes_at)
        elif kept:
            actions += [_delete(one) for one in found]
        else:
            wakes.append(now + LOG_EVERY)
    return Plan(tuple(actions), None, times.earliest(*wakes))


def _questions(view: UpkeepView, one: Try, now: float, *, last: bool) -> list[Question]:
    key = one.job.metadata.annotations.get(names.ANNOTATION_SPEC_KEY, "")
    if not key or one.pod is None:
        return []
    pod, began = one.pod.metadata.name, times.rfc3339(one.started_at)
    if one.result is None:
        started = any(status.state.running is not None for status in one.pod.status.container_statuses)
        moment = str(int(now // LOG_EVERY))
        return [BuildLog(view.namespace, key, pod, moment, began)] if started and last else []
    # Also of a try that another one has followed: the operator may have been away meanwhile.
    asked: list[Question] = [BuildLog(view.namespace, key, pod, "end", began, last)] if one.pod.spec.node_name else []
    if last and not one.result.reason and view.registry is not None:
        asked.append(LockCopy(view.namespace, key, view.registry, one.job.metadata.uid))
    return asked


def _is_late(one: Try, now: float) -> bool:
    ended = one.ended_at if one.ended_at is not None else one.started_at
    return now >= ended + LOG_PATIENCE


def _delete(one: Try) -> Delete:
    metadata = one.job.metadata
    return Delete("Job", metadata.namespace, metadata.name, metadata.uid)
