"""Stoker's kinds, in the order in which a reader meets them."""

from stoker.api import computecluster, environment, trainingjob, workspace
from stoker.api.common import KINDS, Kind

__all__ = ["kinds"]

_ORDER = (
    trainingjob.TrainingJob,
    environment.Environment,
    computecluster.ComputeCluster,
    workspace.Workspace,
)


def kinds() -> tuple[Kind, ...]:
    """All kinds; importing this module fills `KINDS`."""
    return tuple(KINDS[of.__name__] for of in _ORDER)
