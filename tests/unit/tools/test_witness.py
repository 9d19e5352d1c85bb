"""The judge of the race between scale-downs and jobs sees each order of events for what it is."""

from typing import Any

import pytest

from tools.scaling.witness import Witness

LEAVING = {"key": "stoker.dev/leaving", "effect": "NoSchedule", "value": "1"}


def node(*taints: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "n0"}, "spec": {"taints": list(taints)}}


def pod(on: str = "n0", phase: str = "Running", deleted: bool = False) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "team", "uid": "uid-p", "deletionTimestamp": "x" if deleted else None}
    return {"metadata": metadata, "spec": {"nodeName": on}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("changes", "killed"),
    [
        ([(3, pod()), (5, None)], ["team/p on n0"]),
        ([(3, pod()), (5, None), (6, pod(phase="Failed"))], ["team/p on n0"]),
        ([(5, None), (3, pod())], ["team/p on n0"]),
        ([(3, pod()), (4, pod(phase="Succeeded")), (5, None)], []),
        ([(3, pod()), (4, pod(deleted=True)), (5, None)], []),
        ([(5, None), (6, pod())], []),
        ([(3, pod(on="")), (5, None)], []),
        ([(3, pod())], []),
    ],
    ids=["under it", "ended of it", "heard late", "had ended", "was told to", "bound later", "not bound", "stays"],
)  # fmt: skip
def test_a_node_that_goes_under_a_pod_is_seen(changes: list[tuple[int, Any]], killed: list[str]) -> None:
    """None: the node is removed."""
    witness = Witness()
    witness.node("ADDED", 1, node())
    for version, change in changes:
        if change is None:
            witness.node("DELETED", version, node())
        else:
            witness.pod("MODIFIED", version, change)

    assert killed == witness.killed()


@pytest.mark.parametrize(("bound", "close"), [(2, 0), (5, 1)])
def test_a_pod_on_a_node_that_was_told_to_leave_is_a_close_call(bound: int, close: int) -> None:
    witness = Witness()
    witness.node("ADDED", 1, node())
    witness.node("MODIFIED", 3, node(LEAVING))
    witness.node("MODIFIED", 4, node())
    witness.pod("MODIFIED", bound, pod())

    assert close == witness.close_calls()
