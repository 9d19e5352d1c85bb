"""Gangs that somebody else is asked to make room for: handed over whole, followed, taken back when nobody wants them.

The pool owns no nodes. A gang is granted once its request is answered with room, and not before: so its pods come all
at once, and never as a part of a gang that holds what it cannot use.
"""

from collections.abc import Collection, Iterable

from stoker.core.cluster.view import Demand, RoomsView, Wait
from stoker.core.plan import Action, HandOver, TakeBack

Key = tuple[str, int]
#: A request that failed is made anew after so long, in seconds.
AGAIN = 300.0


def wait_for(cluster: str, demand: Demand, rooms: RoomsView) -> Wait | None:
    """Why a gang has no room yet; None when it has."""
    if rooms.problem is not None:
        reason, message = rooms.problem
        return Wait(reason, f"requests for room cannot be read: {message}", f"see ComputeCluster/{cluster}")
    request = rooms.requests.get((demand.uid, demand.attempt))
    if request is None:
        return Wait(
            "HandingOver",
            f"room for {demand.count} nodes is being asked for",
            f"wait; if it lasts, see the problems of ComputeCluster/{cluster}",
        )
    called = f"ProvisioningRequest {request.namespace}/{request.name}"
    words = f": {request.message}" if request.message else ""
    if request.answer == "Provisioned":
        return None
    if request.answer == "Failed":
        return Wait(
            "RoomRefused",
            f"{called} failed ({request.reason}){words}; it is made anew after {AGAIN:.0f} s",
            "wait, or ask for fewer nodes or another instance type",
        )
    reason = f" ({request.reason})" if request.reason else ""
    return Wait(
        "WaitingForRoom",
        f"{called} for {demand.count} nodes is not provisioned yet{reason}{words}",
        f"wait; kubectl describe provisioningrequest {request.name} -n {request.namespace} shows what its class says",
    )


def orders(
    cluster: str,
    wanted: Iterable[Demand],
    rooms: RoomsView,
    held: Collection[Key],
    now: float,
) -> tuple[tuple[Action, ...], float | None]:
    """What to ask for and what to take back, and when a failed request is due again.

    wanted: gangs whose turn it is. held: attempts that run or have been granted their nodes.
    """
    if rooms.problem is not None:
        return (), None
    requests = rooms.requests
    ask = {(demand.uid, demand.attempt): demand for demand in wanted}
    made: list[Action] = [
        HandOver(cluster, one.namespace, one.name, one.uid, one.attempt, one.count, one.instance_type, one.requests)
        for key, one in ask.items()
        if key not in requests
    ]
    due = []
    for key, request in requests.items():
        failed = request.answer == "Failed" and key not in held
        if failed and now < request.since + AGAIN and key in ask:
            due.append(request.since + AGAIN)
        elif failed or (key not in ask and key not in held):
            made.append(TakeBack(cluster, request.namespace, request.name, request.uid))
    return tuple(made), min(due, default=None)
