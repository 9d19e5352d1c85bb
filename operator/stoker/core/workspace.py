"""Whether a Workspace's settings can be used."""

from stoker.api.workspace import Workspace, WorkspaceStatus
from stoker.core.conditions import kstatus, stamped
from stoker.core.plan import Plan
from stoker.core.trainingjob.view import WorkspaceView


def plan(workspace: Workspace, view: WorkspaceView, now: float) -> Plan[WorkspaceStatus]:
    """What to show on a Workspace. view: the namespace's settings as jobs get them."""
    if view.problem is not None:
        reason, message = view.problem
        facts = kstatus(False, reason, message, stalled=True)
    else:
        facts = kstatus(True, "Usable", f"runs are stored below {view.storage_url}")
    generation = workspace.metadata.generation
    return Plan(
        status=WorkspaceStatus(
            observed_generation=generation,
            conditions=stamped(facts, workspace.status.conditions, generation, now),
        )
    )
