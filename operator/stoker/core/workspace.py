"""Whether a Workspace's settings can be used, and which promises its store keeps."""

from stoker.api.common import Condition
from stoker.api.workspace import Workspace, WorkspaceStatus
from stoker.core.conditions import Fact, kstatus, stamped
from stoker.core.plan import Action, Answer, Answers, Ask, Found, Plan, StoragePreflight, ask_again_at, is_due
from stoker.core.trainingjob.view import WorkspaceView

#: The condition that says which promises hold on the store.
PREFLIGHT = "StoragePreflight"
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
        if (fact := _told(answer, view.storage_url) or _former(workspace)) is not None:
            facts[PREFLIGHT] = fact
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


def _former(workspace: Workspace) -> Fact | None:
    """What an operator that ran before us found out, until we know: a restart is no news, and costs no write."""
    for one in workspace.status.conditions:
        if one.type == PREFLIGHT and one.observed_generation == workspace.metadata.generation:
            return _fact(one)
    return None


def _fact(condition: Condition) -> Fact:
    return condition.status, condition.reason, condition.message
