"""What a lost pod left on its scratch claim is saved before the next attempt starts, or the claim stays and is named."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from stoker.api import names
from stoker.api.kube import BatchJob, Claim, Pod
from stoker.api.trainingjob import TrainingJob, TrainingJobStatus
from stoker.core import trainingjob
from stoker.core.plan import AddOwner, Ask, CloseRank, Create, Delete, Plan, Posted, Refused, Seals
from stoker.core.trainingjob import remains
from tests.support import build
from tests.support.build import Answering, child, claim, node, pod, salvage, salvage_pod, seal, view
from tests.support.world import Script, World

SCRATCH = {"resources": {"instanceCount": 1, "scratch": {"size": "10Gi", "storageClassName": "fast"}}}
CLAIM = "iris-0c0ffee0-1-0-x-stoker-scratch"
SALVAGE = "iris-0c0ffee0-1-s0"


def job(**spec: Any) -> TrainingJob:
    return build.job(command=SCRATCH, **spec)


# -- Whole runs in a simulated cluster.


def world_of(*scripts: Script, ready: int = 2, nodes: int = 1, **spec: Any) -> World:
    world = World(build.cluster())
    for number in range(ready):
        world.have_node(f"r{number}")
    command = {"resources": {**SCRATCH["resources"], "instanceCount": nodes}}
    world.submit(build.job(command=command, **spec), *scripts)
    return world


def status_of(world: World) -> TrainingJobStatus:
    return world.jobs[build.UID].status


def node_of(world: World) -> str:
    """The node of rank 0."""
    return world.pods[f"{names.child_name('iris', build.UID, 1)}-0-x"].spec.node_name


def started(world: World, attempt: int) -> float:
    """When an attempt's command started, in seconds after the run was submitted."""
    from stoker.core import times

    entry = next(entry for entry in status_of(world).attempts if entry.number == attempt)
    return (times.seconds(entry.started_at) or 0.0) - build.T0


def assert_going(world: World) -> None:
    """Nothing is left but what the pod of a dead node keeps until its node goes, and that is deleted."""
    assert all(claim.metadata.deletion_timestamp for claim in world.claims.values())
    assert status_of(world).kept_claims == ()


def test_an_ordinary_run_costs_three_writes_more_and_its_claim_goes() -> None:
    world = world_of(Script())

    world.run(600)

    assert world.writes == [
        ("create Job", "iris-0c0ffee0-1"),
        ("own PersistentVolumeClaim", CLAIM),
        ("status", "iris: Running"),
        ("status", "iris: Completed"),
        ("delete PersistentVolumeClaim", CLAIM),
        # A pod that has ended still keeps its claim.
        ("delete Job", "iris-0c0ffee0-1"),
    ]
    assert world.claims == {}


def test_a_run_without_a_claim_costs_what_it_did() -> None:
    world = World(build.cluster())
    world.have_node("r0")
    world.submit(build.job(command={"resources": {"scratch": {"size": "10Gi"}}}), Script())

    world.run(600)

    assert [what for what, _ in world.writes] == ["create Job", "status", "status"]


def test_a_pod_that_vanished_is_salvaged_before_the_next_attempt() -> None:
    world = world_of(Script(seconds=600, sealing="never", vanish=30), Script())

    world.run(900)

    status = status_of(world)
    assert status.phase == "Completed"
    assert [entry.reason for entry in status.attempts] == ["PodLost", "Completed"]
    assert status.interruptions == 1
    assert world.made == ["iris-0c0ffee0-1", SALVAGE, "iris-0c0ffee0-2"]
    assert world.seals[build.KEY, 1][0]["sealedBy"] == "server"
    assert (world.claims, status.kept_claims) == ({}, ())


def test_a_node_whose_volume_is_to_be_had_elsewhere_is_salvaged() -> None:
    world = world_of(Script(seconds=600), Script())
    world.later(30, lambda: world.lose_node(node_of(world)))

    world.run(900)

    assert [entry.reason for entry in status_of(world).attempts] == ["NodeLost", "Completed"]
    assert world.seals[build.KEY, 1][0]["sealedBy"] == "server"
    assert_going(world)


def test_a_volume_that_went_dark_with_its_node_costs_seconds_and_is_named() -> None:
    world = world_of(Script(seconds=600, salvage="unmounted"), Script())
    world.later(30, lambda: world.lose_node(node_of(world)))

    world.run(900)

    status = status_of(world)
    assert status.phase == "Completed"
    (kept,) = status.kept_claims
    assert (kept.name, kept.attempt, kept.rank) == (CLAIM, 1, 0)
    assert kept.message.startswith("node r")
    assert "is not ready" in kept.message
    assert f"Job {SALVAGE} could not mount it within 10s: no node has the volume" in kept.message
    assert set(world.claims) == {CLAIM}
    assert world.salvages == {}
    # 15 s of silence, 10 s of patience, and what a start costs.
    assert started(world, 2) - 30 < 15 + remains.LOST_NODE_PATIENCE + 10


def test_a_salvage_that_fails_leaves_the_claim_to_people() -> None:
    world = world_of(Script(seconds=600, sealing="never", vanish=30, salvage="failed"), retry={"interruptionLimit": 0})

    world.run(900)

    status = status_of(world)
    assert (status.phase, status.reason) == ("Failed", "PodLost")
    assert [kept.name for kept in status.kept_claims] == [CLAIM]
    assert f"Job {SALVAGE} failed: the disk is broken" in status.kept_claims[0].message
    assert CLAIM in status.message


def test_a_kept_claim_that_somebody_deleted_is_no_longer_named() -> None:
    world = world_of(Script(seconds=600, sealing="never", vanish=30, salvage="failed"), Script(seconds=100))
    world.run(900, until=lambda world: len(world.made) == 3)
    assert [kept.name for kept in status_of(world).kept_claims] == [CLAIM]
    world.claims.pop(CLAIM)

    world.run(900)

    assert (status_of(world).phase, status_of(world).kept_claims) == ("Completed", ())


def test_a_gang_loses_one_of_its_pods() -> None:
    world = world_of(Script(seconds=600), Script(), ready=3, nodes=2)
    world.later(30, lambda: world.lose_node(node_of(world)))

    world.run(900)

    assert status_of(world).phase == "Completed"
    assert [name for name in world.made if "-s" in name] == [SALVAGE]
    assert_going(world)


STORIES = {
    "vanished": (Script(seconds=600, sealing="never", vanish=30), Script()),
    "unmounted": (Script(seconds=600, sealing="never", vanish=30, salvage="unmounted"), Script()),
    "failed": (Script(seconds=600, sealing="never", vanish=30, salvage="failed"), Script()),
    "ordinary": (Script(), Script()),
}


@pytest.mark.parametrize("story", STORIES)
def test_an_operator_that_is_killed_after_any_write_comes_to_the_same_end(story: str) -> None:
    undisturbed = world_of(*STORIES[story]).run(900)
    for number in range(1, len(undisturbed.writes) + 1):
        world = world_of(*STORIES[story])
        world.run(900, until=lambda world, number=number: len(world.writes) >= number)  # type: ignore[misc]
        world.restart()

        world.run(900)

        assert status_of(world).phase == "Completed", f"after write {number}: {world.writes}"
        assert sorted(world.made) == sorted(undisturbed.made)
        assert set(world.claims) == set(undisturbed.claims)
        assert status_of(world).kept_claims == status_of(undisturbed).kept_claims


# -- One plan at a time.


def planned(*claims: Claim, at: float = 20.0, of: TrainingJob | None = None, **members: Any) -> Plan[TrainingJobStatus]:
    told = {"answers": Answering(silent=(CloseRank,)), **members}
    return trainingjob.plan(view(of or job(), claims=claims, **told), build.T0 + at)


def salvages_in(plan: Plan[TrainingJobStatus]) -> list[Any]:
    return [action.manifest for action in plan.actions if isinstance(action, Create)]


def closings_in(plan: Plan[TrainingJobStatus]) -> list[CloseRank]:
    asked = [action.question for action in plan.actions if isinstance(action, Ask)]
    return [question for question in asked if isinstance(question, CloseRank)]


def owners_in(plan: Plan[TrainingJobStatus]) -> list[str]:
    return [action.name for action in plan.actions if isinstance(action, AddOwner)]


def deletes_in(plan: Plan[TrainingJobStatus]) -> list[tuple[str, str]]:
    return [(action.kind, action.name) for action in plan.actions if isinstance(action, Delete)]


GONE: dict[str, Any] = {"children": (child(ended="Failed"),)}


def test_a_claim_is_the_jobs_as_soon_as_it_is_seen() -> None:
    running: dict[str, Any] = {"children": (child(),), "pods": (pod(started=3),)}

    assert owners_in(planned(claim(owned=False), **running)) == [CLAIM]
    assert owners_in(planned(claim(), **running)) == []
    assert owners_in(planned(claim(owned=False, deleting=True), **running)) == []


@pytest.mark.parametrize(
    "odd",
    [
        claim(name="datasets", owned=False),
        claim(name="iris-0c0ffee0-1-0-x-cache", owned=False),
        claim(owned=False, pod="another-1-0-x", name=CLAIM),
    ],
    ids=["another name", "another volume of the pod", "another pod's"],
)
def test_a_claim_that_only_has_our_labels_is_left_alone(odd: Claim) -> None:
    assert planned(odd, **GONE).actions == planned(**GONE).actions
    assert planned(odd, of=job(status={"phase": "Completed"})).actions == ()


def test_a_pod_whose_every_process_was_killed_is_salvaged_at_once() -> None:
    killed = pod(started=3, exit_code=137, ended=20, main={"terminated": {
        "exitCode": 137, "reason": "OOMKilled", "startedAt": build.stamp(3), "finishedAt": build.stamp(20)}}, phase="Failed")  # fmt: skip

    (made,) = salvages_in(planned(claim(), at=20.5, children=(child(),), pods=(killed,)))

    assert made["metadata"]["name"] == SALVAGE
    assert made["spec"]["template"]["spec"]["containers"][0]["args"][:3] == ["salvage", "--lost-as", "OOMKilled"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (GONE, "PodLost"),
        ({"children": (child(),), "pods": (pod(phase="Failed", reason="Evicted", message="low on disk", started=3),)}, "Evicted"),
        ({"children": (child(),), "pods": (pod(phase="Failed", started=3),)}, "LauncherLost"),
        (
            {
                "of": job(status={"attempts": [{"number": 1, "reason": "NodeLost"}]}),
                "children": (child(deleting=True),),
                "pods": (pod(started=3),),
                "nodes": [node("other")],
            },
            "NodeLost",
        ),
    ],
)  # fmt: skip
def test_the_salvage_is_told_why_the_rank_is_lost(members: dict[str, Any], reason: str) -> None:
    (made,) = salvages_in(planned(claim(), **members))

    assert made["spec"]["template"]["spec"]["containers"][0]["args"][2] == reason


def test_a_rank_is_not_closed_while_its_remains_are_being_saved() -> None:
    saving = salvage()
    members: dict[str, Any] = {**GONE, "salvages": (saving,), "salvage_pods": (salvage_pod(saving, running=True),)}

    made = planned(claim(), at=139, **members)

    assert (salvages_in(made), closings_in(made)) == ([], [])
    waiting = trainingjob.why(view(job(), claims=(claim(),), answers=Answering(), **members), build.T0 + 139)
    assert waiting is not None
    assert waiting.reason == "SavingRemains"
    assert CLAIM in waiting.message


def test_status_says_that_remains_are_being_saved_once_that_has_lasted() -> None:
    members: dict[str, Any] = {**GONE, "salvages": (salvage(created=20),)}

    early, late = planned(claim(), at=24, **members), planned(claim(), at=26, **members)

    assert (early.status, early.wake_at) == (None, build.T0 + 25)
    assert late.status is not None
    assert late.status.waiting is not None
    assert late.status.waiting.reason == "SavingRemains"


PENDING = salvage_pod(salvage(), unplaced="0/3 nodes have the volume")


@pytest.mark.parametrize(
    ("pods", "at", "closed"),
    [
        ((PENDING,), 139.9, False),
        ((PENDING,), 140.0, True),
        ((), 140.0, True),
        ((salvage_pod(salvage(), running=True),), 140.0, False),
        ((salvage_pod(salvage(), running=True),), 620.0, True),
    ],
)
def test_patience_ends(pods: Sequence[Pod], at: float, closed: bool) -> None:
    made = planned(claim(), at=at, salvages=(salvage(),), salvage_pods=tuple(pods), **GONE)

    assert bool(closings_in(made)) == closed
    assert closed or made.wake_at is not None
    assert all(CLAIM in question.message for question in closings_in(made))


@pytest.mark.parametrize("end", ["Complete", "Failed"])
def test_a_salvage_that_ended_without_a_seal_closes_the_rank(end: str) -> None:
    assert closings_in(planned(claim(), salvages=(salvage(ended=end),), **GONE))


def test_a_salvage_that_may_not_be_closes_the_rank_with_the_reason() -> None:
    refused = Refused("PodsRejected", "exceeded quota: jobs=3", "", build.T0 + 30)
    answers = Answering({Posted("Job", build.NAMESPACE, SALVAGE): refused}, silent=(CloseRank,))

    made = planned(claim(), answers=answers, **GONE)

    assert salvages_in(made) == []
    assert ["exceeded quota: jobs=3" in question.message for question in closings_in(made)] == [True]


@pytest.mark.parametrize(
    "unused",
    [(claim(phase="Pending"),), (claim(deleting=True),), (claim(attempt=2),), (claim(rank=1),)],
    ids=["no volume", "going already", "another attempt's", "another rank's"],
)
def test_without_anything_to_save_a_rank_is_closed_at_once(unused: tuple[Claim, ...]) -> None:
    made = planned(*unused, **GONE)

    assert salvages_in(made) == []
    assert closings_in(made)


def test_a_sealed_rank_is_not_salvaged() -> None:
    made = planned(claim(), answers=Answering(seals={0: seal()}), **GONE)

    assert salvages_in(made) == []
    assert made.status is not None
    assert (made.status.phase, made.status.kept_claims) == ("Completed", ())


def test_no_salvage_before_it_is_known_that_there_is_no_seal() -> None:
    made = planned(claim(), answers=Answering(silent=(Seals, CloseRank)), **GONE)

    assert salvages_in(made) == []
    assert [type(action.question) for action in made.actions if isinstance(action, Ask)] == [Seals]


def test_a_finished_run_leaves_no_claim_and_no_salvage_but_the_kept() -> None:
    done = job(status={"phase": "Failed", "keptClaims": [{"name": CLAIM, "attempt": 1}]})
    members: dict[str, Any] = {"of": done, "salvages": (salvage(attempt=2),)}

    made = planned(claim(), claim(attempt=2), **members)

    assert deletes_in(made) == [
        ("PersistentVolumeClaim", "iris-0c0ffee0-2-0-x-stoker-scratch"),
        ("Job", "iris-0c0ffee0-2-s0"),
    ]


def test_what_has_ended_goes_with_the_claim_it_names() -> None:
    """A deleted claim stays for as long as there is a pod that names it, even one that has ended."""
    closed = job(status={"attempts": [{"number": 1, "counted": "Interruption", "endedAt": build.stamp(15)}]})
    members: dict[str, Any] = {"of": closed, "salvages": (salvage(ended="Complete"),), **GONE}

    assert deletes_in(planned(claim(deleting=True), **members)) == [
        ("Job", "iris-0c0ffee0-1"),
        ("Job", SALVAGE),
    ]
    assert deletes_in(planned(**members)) == []


def test_the_two_claims_of_a_rank_whose_pod_was_replaced() -> None:
    """The Job controller may replace a pod: what the younger pod wrote is what counts."""
    other = claim(name="iris-0c0ffee0-1-0-zz-stoker-scratch")
    ended = pod(phase="Failed", started=3)

    (made,) = salvages_in(planned(other, claim(), children=(child(),), pods=(ended,)))

    volume = made["spec"]["template"]["spec"]["volumes"][0]
    assert volume["persistentVolumeClaim"] == {"claimName": CLAIM}


def test_a_salvage_is_no_attempt() -> None:
    """It neither holds nodes of a pool nor counts as a child."""
    labels = {**salvage().metadata.labels, names.LABEL_COMPUTE: "cpu"}
    other = msgspec.convert({"metadata": {"name": SALVAGE, "labels": labels}}, BatchJob)

    assert trainingjob.holdings([other], [salvage_pod(other, running=True)]) == {}


def test_a_canceled_run_is_salvaged_too() -> None:
    canceled = job(cancel=True, status={"phase": "Canceling", "attempts": [{"number": 1, "reason": "Canceled"}]})

    assert len(salvages_in(planned(claim(), of=canceled, **GONE))) == 1
    told = {0: seal(exit=build.exit_record(None, reason="PodLost"))}
    made = planned(claim(), of=canceled, answers=Answering(seals=told), **GONE)
    assert made.status is not None
    assert made.status.phase == "Canceled"


def test_a_forgotten_closing_is_found_again() -> None:
    """The operator was killed after it had closed the rank: that the claim is kept stands in the seal."""
    closed = {0: seal(0, None, complete=False, reason="PodLost", message="kept") | {"sealedBy": "operator"}}
    members: dict[str, Any] = {"answers": Answering(seals=closed), "salvages": (salvage(ended="Failed"),), **GONE}

    made = planned(claim(), **members)

    assert deletes_in(made) == []
    assert made.status is not None
    assert [(kept.name, kept.message) for kept in made.status.kept_claims] == [(CLAIM, "kept")]


def test_what_was_salvaged_counts_as_what_it_was() -> None:
    lost = {0: seal(exit=build.exit_record(None, reason="NodeLost", message="node n0 is not ready"))}
    stopped = job(status={"attempts": [{"number": 1, "reason": "NodeLost", "startedAt": build.stamp(3)}]})

    made = planned(of=stopped, answers=Answering({}, seals=lost), **GONE)

    assert made.status is not None
    assert (made.status.attempts[0].counted, made.status.early_node_losses) == ("Interruption", 1)


KILLED = {"terminated": {"exitCode": 137, "startedAt": build.stamp(3), "finishedAt": build.stamp(20)}}


@pytest.mark.parametrize(
    ("told", "retry", "reason", "counted"),
    [
        ("OOMKilled", {"limit": 1, "causes": ["OOMKilled"]}, "OOMKilled", "Failure"),
        ("Error", {"limit": 1}, "LauncherLost", "Failure"),
        ("Error", {"limit": 1, "causes": ["OOMKilled"]}, "LauncherLost", None),
    ],
)
def test_a_container_that_was_killed_whole_counts_as_what_the_kubelet_says(
    told: str, retry: dict[str, Any], reason: str, counted: str | None
) -> None:
    """launch died with its command, so the exit record is ship's or the salvage's, who saw nothing."""
    state = {"terminated": {**KILLED["terminated"], "reason": told}}
    killed = pod(started=3, exit_code=137, ended=20, main=state, phase="Failed")
    seals = {0: seal(exit=build.exit_record(None, reason="LauncherLost"))}

    made = planned(of=job(retry=retry), answers=Answering(seals=seals), children=(child(),), pods=(killed,))

    assert made.status is not None
    assert (made.status.attempts[0].reason, made.status.attempts[0].counted) == (reason, counted)
