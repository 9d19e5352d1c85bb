"""Whole lives of jobs in a simulated cluster: what is promised whatever happens."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.api.computecluster import ComputeCluster
from stoker.api.trainingjob import FINISHED
from stoker.core import trainingjob
from stoker.core.plan import ImageDigest, Refused
from tests.support import build
from tests.support.world import Script, World


def world_of(
    *, nodes: int = 0, ready: int = 0, script: Script | None = None, pool: ComputeCluster | None = None
) -> World:
    """A world with one job `iris` of so many nodes (0: none submitted) on a pool of which `ready` nodes are there."""
    world = World(pool or build.cluster())
    for number in range(ready):
        world.have_node(f"r{number}")
    if nodes:
        world.submit(build.job(nodes=nodes), script or Script())
    return world


def test_a_job_that_starts_at_once_costs_three_writes() -> None:
    world = world_of(nodes=1, ready=1, script=Script(seconds=600)).run(650)

    assert world.writes == [
        ("create Job", "iris-0c0ffee0-1"),
        ("status", "iris: Running"),
        ("status", "iris: Completed"),
    ]


def test_a_gang_costs_its_service_as_well() -> None:
    world = world_of(nodes=2, ready=2).run(60)

    assert [what for what, _ in world.writes] == [
        "create Service", "create Job", "status", "delete Service", "status",
    ]  # fmt: skip


def test_a_job_on_an_empty_pool_goes_from_zero_nodes_to_zero_nodes() -> None:
    world = world_of(nodes=2).run()

    assert world.phase(build.UID) == "Completed"
    assert (world.replicas, len(world.nodes), world.peak) == (0, 0, 2)
    assert [name for what, name in world.writes if what == "status"] == [
        "iris: Queued", "iris: Running", "iris: Completed",
    ]  # fmt: skip


def test_a_canceled_job_keeps_what_was_sealed_in_its_grace() -> None:
    world = world_of(nodes=1, ready=1, script=Script(seconds=600))
    world.later(30, lambda: world.cancel(build.UID))

    status = world.run(300).jobs[build.UID].status

    assert (status.phase, status.reason, status.message) == ("Canceled", "Canceled", "canceled by spec.cancel")
    assert [output.path for output in status.outputs] == ["model.pkl"]


def test_a_job_canceled_before_it_starts_has_a_record_and_a_result() -> None:
    world = world_of(nodes=1, pool=build.cluster(provider="Static"))
    world.later(30, lambda: world.cancel(build.UID))

    world.run(300)

    assert world.phase(build.UID) == "Canceled"
    assert {kind for kind, _ in world.stored} == {"Recorded", "ResultWritten"}
    assert world.made == []


def test_a_lost_node_fails_the_run_with_its_name_and_goes() -> None:
    world = world_of(ready=1)
    world.submit(build.job(retry={"interruptionLimit": 0}), Script(seconds=600))
    world.later(30, lambda: world.lose_node("r0"))

    world.run(1000)

    status = world.jobs[build.UID].status
    assert (status.phase, status.reason) == ("Failed", "NodeLost")
    assert status.message == "node r0 is not ready (this was interruption 1; spec.retry.interruptionLimit is 0)"
    assert world.nodes == {}


@pytest.mark.parametrize("reason", ["BaseImageNotFound", "ArchitectureMismatch"])
def test_a_job_that_waits_for_the_user_says_so_at_once_and_only_once_and_starts_nothing(reason: str) -> None:
    world = world_of(nodes=1, ready=1)
    question = ImageDigest("team", build.IMAGE, "linux/amd64")
    world.refusals[question] = Refused(reason, f"{build.IMAGE}: not for us", "push it")

    world.run(300)

    assert world.writes == [("status", "iris: Preparing")]
    waiting = world.jobs[build.UID].status.waiting
    assert waiting is not None
    assert (waiting.reason, waiting.fix) == (reason, "push it")


def test_a_finished_job_whose_spec_changes_does_nothing() -> None:
    world = world_of(nodes=1, ready=1).run(60)
    before = list(world.writes)
    world.cancel(build.UID)
    world.children.clear()
    world.pods.clear()

    world.run(200)

    assert before == world.writes


SCRIPTS = st.builds(
    Script,
    codes=st.lists(st.sampled_from([0, 0, 0, 1, 3, 137]), min_size=1, max_size=3).map(tuple),
    seconds=st.floats(0.1, 40),
    sealing=st.sampled_from(["complete", "complete", "incomplete", "never"]),
    starts=st.sampled_from([True, True, True, False]),
    vanish=st.none() | st.floats(0.1, 30),
    salvage=st.sampled_from(["saved", "failed", "unmounted"]),
)
SCRATCHES = st.sampled_from([{}, {}, {"scratch": {"size": "1Gi", "storageClassName": "fast"}}])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A pool with some nodes, up to four jobs, and mishaps."""
    pool = build.cluster(most=draw(st.integers(0, 5)), least=draw(st.integers(0, 2)) if draw(st.booleans()) else 0)
    if pool.spec.min_instances > pool.spec.max_instances:
        pool = build.cluster(most=2)
    world = World(pool)
    for number in range(draw(st.integers(0, min(3, pool.spec.max_instances)))):
        world.have_node(f"r{number}")
    for number in range(draw(st.integers(1, 4))):
        uid = f"{number:08x}-0000-4000-8000-000000000001"
        resources = {"instanceCount": draw(st.integers(1, 3)), **draw(SCRATCHES)}
        job = build.job(
            f"job{number}",
            uid=uid,
            command={"resources": resources},
            limits={"timeoutSeconds": 300, "graceSeconds": 10},
        )
        script = draw(SCRIPTS)
        world.later(draw(st.floats(0, 60)), lambda job=job, script=script: world.submit(job, script))  # type: ignore[misc]
        if draw(st.booleans()):
            at = draw(st.floats(60, 200))
            world.later(at, lambda uid=uid: world.cancel(uid))  # type: ignore[misc]
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(["r0", "r1", "n0001", "n0002"]))
        world.later(draw(st.floats(1, 200)), lambda name=name: world.lose_node(name))  # type: ignore[misc]
    return world


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_every_life_keeps_the_promises(world: World) -> None:
    """No child twice, no terminal status without a result, no write of an equal status (the world checks these while it
    runs); Completed only with every seal complete; nothing above max, no node taken from a job, an end to everything."""
    world.run(6000)

    most = world.pool.spec.max_instances
    assert world.peak <= max(most, 3)
    assert all(not running for name, running in world.removed if not name_was_lost(world, name))
    for uid, job in world.jobs.items():
        status = job.status
        seals = world.seals.get((status.key, max((entry.number for entry in status.attempts), default=1)), {})
        if status.phase == "Completed":
            assert all(seal["complete"] and seal["exit"]["code"] == 0 for seal in seals.values())
            assert len(seals) == world.jobs[uid].spec.command.resources.instance_count  # type: ignore[union-attr]
        if status.phase not in FINISHED:
            assert status.waiting is not None, f"{uid} stands in {status.phase} and does not say why"
            assert status.waiting.reason in ("GangLargerThanPool", "PoolFull", "WaitingForTurn", "NodesBooting")
        named = {claim.name for claim in status.kept_claims}
        for claim in world.view(uid).claims if status.phase in FINISHED else ():
            left = claim.metadata.deletion_timestamp is None and claim.metadata.name not in named
            assert not left, f"{claim.metadata.name} stays and nobody says so"
        plan = trainingjob.plan(world.view(uid), world.now)
        assert plan.status is None, "planning settles"


def name_was_lost(world: World, name: str) -> bool:
    """Whether a removed node had been lost: its pods died with it."""
    return name in world.lost


@pytest.mark.parametrize("codes", [(0, 0), (0, 3), (3, 0)])
def test_completed_means_that_every_rank_ended_with_0(codes: tuple[int, ...]) -> None:
    world = world_of(nodes=2, ready=2, script=Script(codes=codes)).run(200)

    assert world.phase(build.UID) == ("Completed" if codes == (0, 0) else "Failed")


@pytest.mark.parametrize(("sealing", "reason"), [("incomplete", "OutputsNotSaved"), ("never", "OutputsNotSaved")])
def test_exit_0_without_a_complete_seal_is_not_completed(sealing: str, reason: str) -> None:
    world = world_of(nodes=1, ready=1, script=Script(sealing=sealing)).run(600)

    status = world.jobs[build.UID].status
    assert (status.phase, status.reason) == ("Failed", reason)


def test_a_pod_that_never_starts_is_ended_at_timeout_and_grace() -> None:
    world = World(build.cluster())
    world.have_node("r0")
    world.submit(build.job(limits={"timeoutSeconds": 60, "graceSeconds": 20}), Script(starts=False))

    world.run(600)

    status = world.jobs[build.UID].status
    assert (status.phase, status.reason) == ("Failed", "TimedOut")
    assert "limits.timeoutSeconds" in status.message
