"""Conditions as Kubernetes' API conventions have them, made of facts; shared by every kind."""

from collections.abc import Mapping

from stoker.api.common import Condition, ConditionStatus
from stoker.core import times

#: Status, reason and message of one condition.
Fact = tuple[ConditionStatus, str, str]


def stamped(
    facts: Mapping[str, Fact], former: tuple[Condition, ...], generation: int, now: float
) -> tuple[Condition, ...]:
    """Conditions of facts, sorted by type. The time of the last change is the former one's while the status is the
    same."""
    since = {(entry.type, entry.status): entry.last_transition_time for entry in former}
    return tuple(
        Condition(
            type=kind, status=status, reason=reason, message=message[:4096],
            last_transition_time=since.get((kind, status)) or times.rfc3339(now), observed_generation=generation,
        )
        for kind, (status, reason, message) in sorted(facts.items())
    )  # fmt: skip


def kstatus(ready: bool, reason: str, message: str = "", *, stalled: bool = False) -> dict[str, Fact]:
    """Ready, Reconciling and Stalled, as kstatus (Flux, Argo, `kubectl wait`) reads them."""
    return {
        "Ready": ("True" if ready else "False", reason, message),
        "Reconciling": ("False" if ready or stalled else "True", reason, "" if ready or stalled else message),
        "Stalled": ("True" if stalled else "False", reason, message if stalled else ""),
    }
