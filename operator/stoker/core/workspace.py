"""Whether a Workspace's settings can be used, which promises its store keeps, and what its retention removed from store and registry."""

from stoker.api.common import Condition
from stoker.api.workspace import Retention, Workspace, WorkspaceStatus
from stoker.core import times
from stoker.core.conditions import Fact, kstatus, stamped
from stoker.core.environment import cleaning
from stoker.core.plan import (
    Action,
    Answer,
    Answers,
    Ask,
    Cleaned,
    Found,
    Plan,
    Retained,
    StoragePreflight,
    ask_again_at,
    is_due,
)
from stoker.core.retention import Report
from stoker.core.trainingjob.view import WorkspaceView

#: The condition that says which promises hold on the store.
PREFLIGHT = "StoragePreflight"
#: The condition that says what retention removed.
RETENTION = "Retention"
#: The condition that says which images were removed.
IMAGES = "EnvironmentRetention"
#: So many runs are named in a message.
_NAMED = 10
_REASONS = frozenset({"PromisesMissing", "StorageUnreachable"})


def plan(workspace: Workspace, view: WorkspaceView, answers: Answers, now: float) -> Plan[WorkspaceStatus]:
    """What to show on a Workspace. view: the namespace's settings as jobs get them."""
    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    if view.problem is not None:
        reason, message = view.problem
        facts = kstatus(False, reason, message, stalled=True)
    else:
        facts = kstatus(True, "Usable", f"runs are stored below {view.storage_url}")
        question = StoragePreflight(workspace.metadata.namespace, view.storage_url)
        answer = answers.get(question)
        if is_due(answer, now):
            actions = (Ask(question),)
        wake_at = ask_again_at(answer, now)
        if (fact := _told(answer, view.storage_url) or _former(workspace, PREFLIGHT)) is not None:
            facts[PREFLIGHT] = fact
        retained = answers.get(Retained(workspace.metadata.namespace, view.storage_url))
        if (fact := _retention(workspace, retained)) is not None:
            facts[RETENTION] = fact
        if (fact := _images(workspace, answers.get(Cleaned(workspace.metadata.namespace)))) is not None:
            facts[IMAGES] = fact
    generation = workspace.metadata.generation
    conditions = stamped(facts, workspace.status.conditions, generation, now)
    return Plan(actions, WorkspaceStatus(observed_generation=generation, conditions=conditions), wake_at)


def _told(answer: Answer, url: str) -> Fact | None:
    if answer is None:
        return None
    if isinstance(answer, Found):
        return "True", "AllHold", f"every promise that runs rest on holds on {url}"
    message = f"{answer.message}; {answer.fix}" if answer.fix else answer.message
    # Another reason is a defect of ours, and says nothing of the store.
    return "False" if answer.reason in _REASONS else "Unknown", answer.reason, message


def _retention(workspace: Workspace, answer: Answer) -> Fact | None:
    """What the last look removed. One that removed nothing is no news: what went before stays told."""
    retention, former = workspace.spec.retention, _former(workspace, RETENTION)
    if retention is None:
        return None
    if answer is None:
        return former
    if not isinstance(answer, Found):
        return "False", answer.reason, f"{answer.message}; {answer.fix}" if answer.fix else answer.message
    report: Report = answer.value
    if report.held:
        return "False", "Held", f"{_removed(report)}; no snapshot goes: {report.held}; remove or mend that record"
    if not report.runs and not report.snapshots:
        told = former if former is not None and former[0] == "True" else None
        return told or ("True", "Applied", f"{_kept(retention)}; nothing had to go yet")
    return "True", "Applied", f"{_kept(retention)}; {_removed(report)}"


def _images(workspace: Workspace, answer: Answer) -> Fact | None:
    """What the last look at the registry removed. One that removed nothing is no news."""
    retention, former = workspace.spec.retention, _former(workspace, IMAGES)
    if retention is None or retention.environment_days is None:
        return None
    if answer is None:
        return former
    if not isinstance(answer, Found):
        return "False", answer.reason, f"{answer.message}; {answer.fix}" if answer.fix else answer.message
    report: cleaning.Report = answer.value
    kept = f"images stay {retention.environment_days} days after their last use"
    if not report.units:
        told = former if former is not None and former[0] == "True" else None
        return told or ("True", "Applied", f"{kept}; nothing had to go yet")
    names = _some(report.images)
    size = f", {report.size} bytes" if report.size else ""
    others = report.units - len(report.images)
    removed = f"removed at {times.rfc3339(report.at)}: {len(report.images)} images{names}, {others} others{size}"
    return "True", "Applied", f"{kept}; {removed}"


def _kept(retention: Retention) -> str:
    rules = (("keepLast", retention.keep_last), ("keepDays", retention.keep_days))
    told = ", ".join(f"{name} {number}" for name, number in rules if number is not None)
    return told or "every run is kept, snapshots that nothing names are not"


def _removed(report: Report) -> str:
    runs = f"{len(report.runs)} runs{_some(report.runs)}"
    return f"removed at {times.rfc3339(report.at)}: {runs}, {report.snapshots} snapshots, {report.size} bytes"


def _some(names: tuple[str, ...]) -> str:
    """` (a, b and 3 more)`; empty for none."""
    more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
    return f" ({', '.join(names[:_NAMED])}{more})" if names else ""


def _former(workspace: Workspace, kind: str) -> Fact | None:
    """What an operator that ran before us found out, until we know: a restart is no news, and costs no write."""
    for one in workspace.status.conditions:
        if one.type == kind and one.observed_generation == workspace.metadata.generation:
            return _fact(one)
    return None


def _fact(condition: Condition) -> Fact:
    return condition.status, condition.reason, condition.message
