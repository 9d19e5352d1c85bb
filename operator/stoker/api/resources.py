"""Stoker's kinds, in the order in which a reader meets them."""

from stoker.api import computecluster, environment, trainingjob, workspace
from stoker.api.common import KINDS, Kind

_ORDER = (
    trainingjob.TrainingJob,
    environment.Environment,
    computecluster.ComputeCluster,
    workspace.Workspace,
)


def kinds() -> tuple[Kind, ...]:
    """All kinds; importing this module fills `KINDS`."""
    return tuple(KINDS[of.__name__] for of in _ORDER)


def kind_named(name: str) -> Kind:
    """One kind. Raises KeyError for a name that is not Stoker's."""
    return next((kind for kind in kinds() if kind.kind == name), None) or KINDS[name]
