"""How a pool shrinks: after its idle time, in three looks, never below min, never a node with a job or a pod on it."""

from typing import Any

import msgspec
import pytest

from stoker.api.kube import Node
from stoker.core import cluster as pools
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, ScaleView
from stoker.core.nodes import is_taken_back
from stoker.core.plan import AdoptNode, KeepNode, MarkForDeletion, ScaleTo, TaintLeaving, TaintPreempted
from tests.support import build
from tests.support.cloud import cloud

T0 = build.T0
MARK = "cluster.x-k8s.io/delete-machine"


def plan(
    *nodes: Node,
    now: float,
    free_since: float = 0.0,
    holdings: tuple[Holding, ...] = (),
    demands: tuple[Demand, ...] = (),
    occupied: frozenset[str] = frozenset(),
    replicas: int | None = None,
    **pool: Any,
) -> ClusterPlan:
    """The plan of a pool, so many seconds after T0, whose nodes fell free at `free_since`."""
    return pools.plan(
        ClusterView(
            cluster=build.cluster(**pool), nodes={node.metadata.name: node for node in nodes}, demands=demands,
            holdings=holdings, freed_at={node.metadata.name: T0 + free_since for node in nodes}, occupied=occupied,
            scale=ScaleView(len(nodes) if replicas is None else replicas),
        ),
        T0 + now,
    )  # fmt: skip


def test_an_idle_node_stays_for_the_idle_time_and_the_plan_wakes_then() -> None:
    made = plan(build.node("n0"), now=119)

    assert made.plan.actions == ()
    assert made.plan.wake_at == T0 + 120


def test_a_node_leaves_in_three_looks() -> None:
    first = plan(build.node("n0"), now=120)
    assert first.plan.actions == (TaintLeaving("cpu", "n0", int(T0 + 120)),)

    tainted = build.node("n0", taints=[build.leaving(120)])
    waiting = plan(tainted, now=124)
    assert waiting.plan.actions == ()
    assert waiting.plan.wake_at == T0 + 126

    last = plan(tainted, now=126)
    assert last.plan.actions == (MarkForDeletion("cpu", "n0", 1), ScaleTo("cpu", 1, 0))

    marked = build.node("n0", taints=[build.leaving(120)], annotations={MARK: "1"})
    assert plan(marked, now=127, replicas=0).plan.actions == ()


def test_a_lowering_whose_reply_was_lost_is_done_again_with_the_same_numbers() -> None:
    marked = build.node("n0", taints=[build.leaving(120)], annotations={MARK: "1"})

    assert plan(marked, now=200, replicas=1).plan.actions == (ScaleTo("cpu", 1, 0),)


@pytest.mark.parametrize(
    "needed",
    [
        {"demands": (Demand("uid-a", "team", "a", 1, 1, 0.0),)},
        {"occupied": frozenset({"n0"})},
        {"holdings": (Holding("uid-a", 1, ("n0",)),)},
        {"least": 1},
    ],
    ids=["a-job-wants-it", "a-pod-landed", "a-job-has-it", "min-was-raised"],
)
def test_a_node_that_is_needed_after_all_is_kept(needed: dict[str, Any]) -> None:
    made = plan(build.node("n0", taints=[build.leaving(120)]), now=200, **needed)

    assert made.plan.actions == (KeepNode("cpu", "n0"),)


def test_min_nodes_are_brought_and_kept() -> None:
    assert plan(now=0, least=2).plan.actions == (ScaleTo("cpu", 0, 2),)
    assert plan(build.node("n0"), build.node("n1"), now=1000, least=2).plan.actions == ()


def test_the_longest_idle_goes_first() -> None:
    view = ClusterView(
        cluster=build.cluster(least=1), nodes={name: build.node(name) for name in ("n0", "n1")},
        freed_at={"n0": T0 + 50, "n1": T0}, scale=ScaleView(2),
    )  # fmt: skip

    assert pools.plan(view, T0 + 500).plan.actions == (TaintLeaving("cpu", "n1", int(T0 + 500)),)


def test_a_max_that_was_lowered_takes_idle_nodes_at_once_and_no_jobs() -> None:
    held = (Holding("uid-a", 1, ("n0",)),)

    made = plan(build.node("n0"), build.node("n1"), now=1, holdings=held, most=0)

    assert made.plan.actions == (TaintLeaving("cpu", "n1", int(T0 + 1)),)


def test_growing_waits_for_a_node_that_was_counted_out_at_the_same_number() -> None:
    """Else the mark would look as if that node were yet to be counted out, and a live one would go in its place."""
    marked = build.node("n0", annotations={MARK: "1"})
    wants = (Demand("uid-a", "team", "a", 1, 1, 0.0),)

    assert plan(marked, now=10, replicas=0, demands=wants).plan.actions == ()
    assert plan(now=11, replicas=0, demands=wants).plan.actions == (ScaleTo("cpu", 0, 1),)


def test_a_dead_node_with_only_pods_being_deleted_goes() -> None:
    dead = build.node("n0", ready="Unknown")
    left = (Holding("uid-a", 1, ("n0",), ending=True),)

    assert plan(dead, now=200, holdings=left).plan.actions == (TaintLeaving("cpu", "n0", int(T0 + 200)),)


TAKEN_BACK = {"key": "stoker.dev/preempted", "effect": "NoExecute"}


def test_a_node_that_is_taken_back_takes_no_job_and_goes_once_its_pods_have_gone() -> None:
    wants = Demand("uid-a", "team", "a", 1, 1, 0.0)
    node = build.node("n0", taints=[TAKEN_BACK])
    ending = (Holding("uid-b", 1, ("n0",), ending=True),)

    while_it_saves = plan(node, now=1, holdings=ending, demands=(wants,))
    after = plan(node, now=9)
    last = plan(build.node("n0", taints=[TAKEN_BACK, build.leaving(9)]), now=15)

    assert ({}, (ScaleTo("cpu", 1, 2),)) == (while_it_saves.assignments, while_it_saves.plan.actions)
    assert while_it_saves.plan.status is not None
    assert 1 == while_it_saves.plan.status.nodes.preempted
    assert after.plan.actions == (TaintLeaving("cpu", "n0", int(T0 + 9)),)
    assert last.plan.actions == (MarkForDeletion("cpu", "n0", 1), ScaleTo("cpu", 1, 0))


def test_a_node_without_its_pools_label_or_taint_is_adopted() -> None:
    made = plan(build.node("n0", pool="else"), now=0)

    assert made.plan.actions == (AdoptNode("cpu", "n0"),)


def test_static_nodes_are_left_as_they_are() -> None:
    made = plan(build.node("n0", pool="else"), now=1000, provider="Static")

    assert made.plan.actions == ()


def test_status_counts_nodes_in_azure_mls_words() -> None:
    held = (Holding("uid-a", 1, ("n0",)),)

    made = plan(
        build.node("n0"), build.node("n1"), build.node("n2", ready="Unknown"),
        build.node("n3", ready="False", created=-5, since=-5), now=1, holdings=held, replicas=5, most=9,
    )  # fmt: skip

    status = made.plan.status
    assert status is not None
    counts = status.nodes
    assert (counts.running, counts.idle, counts.unusable, counts.preparing) == (1, 1, 1, 2)
    assert (status.allocation_state, status.current_nodes, status.target_nodes) == ("Resizing", 4, 5)
    assert [problem.reason for problem in status.problems] == ["NodeNotReady"]


def test_an_equal_status_is_not_written_again() -> None:
    first = plan(build.node("n0"), now=1).plan.status
    assert first is not None
    import msgspec

    cluster = msgspec.structs.replace(build.cluster(), status=first)
    view = ClusterView(cluster=cluster, nodes={"n0": build.node("n0")}, freed_at={"n0": T0}, scale=ScaleView(1))

    assert pools.plan(view, T0 + 60).plan.status is None


def test_what_a_node_promises_and_does_not_hold_is_a_problem() -> None:
    made = plan(build.node("n0", allocatable={"cpu": "2", "memory": "16Gi"}), now=1)

    assert made.plan.status is not None
    (problem,) = made.plan.status.problems
    assert problem.reason == "InstanceTypeOverstated"
    assert "cpu 2 of 4" in problem.message


def test_nothing_leaves_while_the_machines_are_replaced() -> None:
    """Then old machines go first, and the one that we mark may be a new one."""
    rollout = ScaleView(2, rollout="MachineDeployment m/cpu replaces its machines (1 of 2 are new)")
    tainted = build.node("n0", taints=[build.leaving(120)])
    view = ClusterView(
        cluster=build.cluster(), nodes={"n0": tainted, "n1": build.node("n1")}, scale=rollout,
        freed_at={"n0": T0, "n1": T0},
    )  # fmt: skip
    made = pools.plan(view, T0 + 300)

    assert (KeepNode("cpu", "n0"),) == made.plan.actions
    assert made.plan.status is not None
    assert [("RolloutUnderWay", rollout.rollout)] == [(one.reason, one.message) for one in made.plan.status.problems]


@pytest.mark.parametrize(("silent", "expected"), [(3, True), (4, False)])
def test_nothing_goes_while_too_many_nodes_fell_silent_at_once(silent: int, expected: bool) -> None:
    nodes = [
        build.node(f"n{n}", ready="Unknown" if n < silent else "True", created=-9000, since=-200) for n in range(8)
    ]
    made = plan(*nodes, now=500, most=8)

    assert made.plan.status is not None
    assert expected == any(isinstance(action, TaintLeaving) for action in made.plan.actions)
    assert expected != ("TooManyUnready" in {problem.reason for problem in made.plan.status.problems})


def test_nodes_that_never_became_ready_keep_no_others() -> None:
    nodes = [build.node(f"n{n}", ready="False", created=-9000, since=-9000) for n in range(6)]

    assert [action for action in plan(*nodes, now=500, most=8).plan.actions if isinstance(action, TaintLeaving)]


# -- How fast.


def leaving(made: ClusterPlan) -> list[str]:
    return [action.node for action in made.plan.actions if isinstance(action, TaintLeaving)]


def test_no_node_goes_soon_after_one_was_added_and_the_plan_wakes_when_one_may() -> None:
    old, new = build.node("n0"), build.node("n1", created=-100)
    paced = {"scaleDown": {"delayAfterAddSeconds": 600}}

    early = plan(old, new, now=499, **paced)
    assert (leaving(early), early.plan.wake_at) == ([], T0 + 500)
    assert leaving(plan(old, new, now=500, **paced)) == ["n0", "n1"]
    tainted = build.node("n0", taints=[build.leaving(120)])
    assert plan(tainted, new, now=200, **paced).plan.actions == (KeepNode("cpu", "n0"),)


def test_so_many_nodes_leave_at_a_time_and_those_on_their_way_come_first() -> None:
    names = ("n0", "n1", "n2", "n3")
    nodes = [build.node(name) for name in names]
    assert leaving(plan(*nodes, now=200, scaleDown={"maxParallel": 2})) == ["n0", "n1"]

    nodes[3] = build.node("n3", taints=[build.leaving(199)])
    second = plan(*nodes, now=200, scaleDown={"maxParallel": 2})
    assert second.plan.actions == (TaintLeaving("cpu", "n0", int(T0 + 200)),)

    gone = build.node("n3", taints=[build.leaving(120)], annotations={MARK: "4"})
    assert leaving(plan(*nodes[:3], gone, now=200, replicas=3, scaleDown={"maxParallel": 1})) == []


@pytest.mark.parametrize("most", [1, 2])
def test_a_pool_that_shrinks_slowly_gets_to_zero_all_the_same(most: int) -> None:
    world = cloud(most=6, idle=0, scaleDown={"maxParallel": most, "delayAfterAddSeconds": 300})
    for _ in range(6):
        world.submit(1)
    world.settle(100)
    for job in list(world.holdings):
        world.end(job)
    world.settle(100)
    assert len(world.alive) == 6, "300 s after the last was added"
    together = 0
    for _ in range(400):
        world.operate()
        world.pass_time(2)
        together = max(together, len(world.machines) - len(world.alive))

    assert (len(world.machines), together) == (0, most)


def test_a_pool_that_is_deleted_waits_for_no_delay() -> None:
    world = cloud(scaleDown={"delayAfterAddSeconds": 86400})
    job = world.submit(1)
    world.settle(100)
    world.delete_pool()
    world.end(job)
    world.settle(100)

    assert world.gone


# -- Jobs on more nodes than the pool may have.


def lowered(most: int, mode: str, *demands: Demand) -> ClusterPlan:
    """A pool of three nodes, where gang `old` has one and gang `young` two, once it may have fewer."""
    held = (
        Holding("young", 1, ("n1", "n2"), namespace="team", since=T0 - 50),
        Holding("old", 1, ("n0",), namespace="team", since=T0 - 90),
    )
    nodes = [build.node(name) for name in ("n0", "n1", "n2")]
    return plan(*nodes, now=0, holdings=held, demands=demands, most=most, scaleDown={"mode": mode})


def test_jobs_run_to_their_end_on_a_pool_that_may_have_fewer_nodes() -> None:
    assert lowered(0, "TaskCompletion").plan.actions == ()


@pytest.mark.parametrize(("most", "expected"), [(3, []), (2, ["n1"]), (1, ["n1", "n2"]), (0, ["n1", "n2", "n0"])])
def test_the_youngest_are_interrupted_where_the_pool_says_so(most: int, expected: list[str]) -> None:
    assert lowered(most, "Requeue").plan.actions == tuple(TaintPreempted("cpu", name) for name in expected)


def test_idle_nodes_go_before_anybody_is_interrupted() -> None:
    nodes = [build.node(name) for name in ("n0", "n1")]
    held = (Holding("a", 1, ("n0",), namespace="team"),)
    made = plan(*nodes, now=0, holdings=held, most=1, scaleDown={"mode": "Requeue"})

    assert made.plan.actions == (TaintLeaving("cpu", "n1", int(T0)),)


def test_a_node_beyond_the_pool_is_given_to_nobody() -> None:
    """Or a pool whose jobs come one after the other would never get down to what it may have."""
    nodes = [build.node(name) for name in ("n0", "n1")]
    held = (Holding("a", 1, ("n0",), namespace="team"),)
    made = plan(*nodes, now=0, holdings=held, demands=(Demand("b", "team", "b", 1, 1, 0.0),), most=1)

    assert made.assignments == {}
    assert made.waits["b", 1].reason == "PoolFull"
    assert made.plan.actions == (TaintLeaving("cpu", "n1", int(T0)),)


def test_a_pool_of_machines_gets_down_to_what_it_may_have_and_who_was_interrupted_comes_again() -> None:
    world = cloud(most=3, idle=600, scaleDown={"mode": "Requeue"})
    jobs = [world.submit(1) for _ in range(3)]
    world.settle(100)
    assert set(world.holdings) == set(jobs)
    spec = msgspec.structs.replace(world.pool.spec, max_instances=1)
    world.pool = msgspec.structs.replace(world.pool, spec=spec)
    world.operate()
    taken = {name for name, node in world.nodes.items() if is_taken_back(node)}
    assert len(taken) == 2
    # Their pods end within their grace, and each job wants its next attempt.
    for uid, holding in list(world.holdings.items()):
        if set(holding.nodes) & taken:
            world.end(uid)
            world.waiting[uid] = Demand(uid, "team", uid, 2, 1, world.now)
    world.settle(100)

    assert len(world.machines) == len(world.holdings) == 1
    assert all(world.plan is not None and world.plan.waits[uid, 2].reason for uid in world.waiting)
    world.end(next(iter(world.holdings)))
    world.settle(100)
    assert len(world.waiting) == 1, "the next has the node that is left"
