"""Random days of a pool: what holds whatever jobs and nodes do."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.core import cluster as pools
from stoker.core.cluster.view import ClusterView, Demand, Holding, ScaleView
from stoker.core.plan import MarkForDeletion, ScaleTo, TaintLeaving, TaintPreempted
from tests.support import build
from tests.support.world import Script, World

NAMES = ("n0", "n1", "n2", "n3")


@st.composite
def views(draw: st.DrawFn) -> ClusterView:
    """Any pool at any moment, also moments that no history leads to."""
    nodes = {}
    for name in NAMES:
        if draw(st.booleans()):
            mark = draw(st.sampled_from([None, None, "0", "2", "4", "yes"]))
            nodes[name] = build.node(
                name, ready=draw(st.sampled_from(["True", "True", "False", "Unknown"])), since=draw(st.floats(-900, 50)),
                created=draw(st.floats(-1000, 0)), cordoned=draw(st.integers(0, 9)) == 0,
                taints=draw(st.sampled_from([[], [build.leaving(-3)], [build.leaving(-60)]])),
                annotations={"cluster.x-k8s.io/delete-machine": mark} if mark else {},
            )  # fmt: skip
    holdings = tuple(
        Holding(f"h{n}", 1, (name,), bound=draw(st.booleans()), ending=draw(st.integers(0, 5)) == 0)
        for n, name in enumerate(draw(st.lists(st.sampled_from((*NAMES, "gone")), unique=True, max_size=3)))
    )
    demands = tuple(
        Demand(draw(st.sampled_from([f"d{n}", f"h{n}"])), "team", f"d{n}", 1, draw(st.integers(1, 5)), build.T0 + n)
        for n in range(draw(st.integers(0, 3)))
    )
    least = draw(st.integers(0, 2))
    paced = draw(
        st.sampled_from(
            [
                {},
                {"scaleDown": {"maxParallel": 1}},
                {"scaleDown": {"delayAfterAddSeconds": 500}},
                {"scaleDown": {"mode": "Requeue"}},
            ]
        )
    )
    return ClusterView(
        cluster=build.cluster(**paced, provider=draw(st.sampled_from(["Scale", "Scale", "Static", "External"])), least=least, most=draw(st.integers(least, 5))),
        nodes=nodes, demands=demands, holdings=holdings,
        freed_at={name: build.T0 - draw(st.floats(0, 500)) for name in nodes},
        occupied=frozenset(draw(st.lists(st.sampled_from(NAMES), max_size=2))),
        scale=draw(st.sampled_from([None, ScaleView(problem=("NotFound", "no such pool"))] + [ScaleView(n) for n in range(6)])),
    )  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(views())
def test_no_plan_breaks_a_promise(view: ClusterView) -> None:
    made = pools.plan(view, build.T0)

    bound = {name for holding in view.holdings if holding.bound and not holding.ending for name in holding.nodes}
    given_away = [name for nodes in made.assignments.values() for name in nodes]
    assert len(given_away) == len(set(given_away)), "a node is given once"
    assert not bound & set(given_away), "a node with a job is not given"
    counts = {(demand.uid, demand.attempt): demand.count for demand in view.demands}
    for key, nodes in made.assignments.items():
        assert len(nodes) in ((0,) if view.cluster.spec.provider.type == "External" else (counts[key],))
    going = {a.node for a in made.plan.actions if isinstance(a, TaintLeaving | MarkForDeletion)}
    assert not going & (bound | set(given_away) | view.occupied), "what is in use stays"
    taken_back = {a.node for a in made.plan.actions if isinstance(a, TaintPreempted)}
    assert taken_back <= bound, "only who has a job is asked for it"
    allowed = max(0, len(bound & view.nodes.keys()) - view.cluster.spec.max_instances)
    requeues = view.cluster.spec.scale_down is not None and view.cluster.spec.scale_down.mode == "Requeue"
    assert len(taken_back) <= (allowed if requeues else 0), "and no more than exceed the pool"
    most = view.cluster.spec.scale_down.max_parallel if view.cluster.spec.scale_down is not None else None
    assert most is None or len(going) <= most, "no more leave at a time than may"
    scales = [action for action in made.plan.actions if isinstance(action, ScaleTo)]
    assert len(scales) <= 1, "one decision at a time"
    for scale in scales:
        assert view.scale is not None
        assert scale.from_replicas == view.scale.replicas
        assert scale.replicas <= max(view.cluster.spec.max_instances, view.scale.replicas)
        marks = sum(1 for action in made.plan.actions if isinstance(action, MarkForDeletion))
        already = sum(
            1 for node in view.nodes.values() if "cluster.x-k8s.io/delete-machine" in node.metadata.annotations
        )
        assert scale.from_replicas - scale.replicas <= marks + already, (
            "replicas go down only with nodes that are marked"
        )
    bound_keys = {(holding.uid, holding.attempt) for holding in view.holdings if holding.bound}
    for key in set(counts) - set(made.assignments) - bound_keys:
        assert made.waits[key].reason, "whoever waits is told why"
    status = made.plan.status
    assert status is not None
    if view.cluster.spec.provider.type != "External":
        counted = status.nodes
        assert counted.idle + counted.running + counted.unusable + counted.leaving <= len(view.nodes)
    assert {member.name for member in status.members} == set(view.nodes), "every node is told of"
    assert all(member.reason and member.message and member.since for member in status.members)


@st.composite
def days(draw: st.DrawFn) -> World:
    world = World(build.cluster(most=draw(st.integers(1, 4)), idle=draw(st.sampled_from([0, 5, 60]))))
    for number in range(draw(st.integers(1, 8))):
        job = build.job(
            f"job{number}", nodes=draw(st.integers(1, world.pool.spec.max_instances)), uid=f"{number:08x}-0000"
        )
        script = Script(seconds=draw(st.floats(0.5, 90)))
        at = draw(st.floats(0, 400))
        world.later(at, lambda job=job, script=script: submit(world, job, script))  # type: ignore[misc]
    return world


def submit(world: World, job: Any, script: Script) -> None:
    world.submit(job, script)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(days())
def test_every_day_ends_with_every_job_done_and_no_node_left(world: World) -> None:
    world.run(20_000)

    assert {job.status.phase for job in world.jobs.values()} == {"Completed"}
    assert (world.replicas, world.nodes) == (0, {})
    assert world.peak <= world.pool.spec.max_instances
    assert all(running == frozenset() for _, running in world.removed)
    assert pools.plan(world.cluster_view(), world.now).plan.actions == ()
