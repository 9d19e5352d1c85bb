"""Kueue: the child waits in its queue, nodes come once it has quota, and what Kueue says is told with what to do."""

from typing import Any

import msgspec
import pytest

from stoker.api import names
from stoker.api.kueue import LABEL_PRIORITY_CLASS, LABEL_QUEUE
from stoker.api.trainingjob import TrainingJob
from stoker.api.workspace import Defaults
from stoker.core import cluster, trainingjob
from stoker.core.cluster.view import ClusterView, Holding
from stoker.core.plan import AnswerCheck, AssignNode, Create, Delete, UnassignNode
from stoker.core.trainingjob.explain import explain
from stoker.core.trainingjob.queue import QUEUE_AGAIN
from stoker.core.trainingjob.view import JobView, Placement, WorkspaceView
from tests.support import build
from tests.support.build import Answering, job, pod, view
from tests.support.kueue import cluster_queue, local_queue, queued, queues, workload

NOW = build.T0 + 20
RESERVED = ("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue gpus")
FULL = ("QuotaReserved", "False", "Pending", "insufficient unused quota for cpu in flavor std, 4 more needed")
ADMITTED = ("Admitted", "True", "Admitted", "The workload is admitted")
PENDING = {"name": "stoker", "state": "Pending"}
UNQUEUED = {"number": 1, "reason": "NotQueued", "counted": "Neither", "endedAt": build.stamp(10)}


def named(**given: Any) -> TrainingJob:
    return job(queue={"name": "vision", **given.pop("queue", {})}, **given)


def waiting_child(*conditions: tuple[str, str, str, str], of: TrainingJob | None = None, **more: Any) -> JobView:
    """A job whose child waits in its queue, and of which Kueue says this."""
    owner, checks = of or named(), more.pop("checks", (PENDING,))
    child = queued(owner)
    told = queues((child, workload(child, *conditions, checks=checks)))
    return view(owner, children=(child,), queues=more.pop("queues", told), **more)


def reason_of(seen: JobView, now: float = NOW) -> str:
    found = trainingjob.why(seen, now)
    return found.reason if found is not None else ""


def created(seen: JobView) -> dict[str, Any]:
    """The Job that a plan makes."""
    manifests = [one.manifest for one in trainingjob.plan(seen, NOW).actions if isinstance(one, Create)]
    (made,) = (dict(manifest) for manifest in manifests if manifest["kind"] == "Job")
    return made


# -- Into the queue.


def test_the_child_is_made_suspended_before_there_are_nodes() -> None:
    seen = view(named(queue={"priority": "High"}), queues=queues())

    made = created(seen)

    assert made["spec"]["suspend"] is True
    assert "vision" == made["metadata"]["labels"][LABEL_QUEUE]
    assert "stoker-high" == made["metadata"]["labels"][LABEL_PRIORITY_CLASS]
    assert "affinity" not in made["spec"]["template"]["spec"]
    assert LABEL_QUEUE not in made["spec"]["template"]["metadata"]["labels"]
    assert trainingjob.demand(seen, NOW) is None


def test_ranks_of_a_gang_get_a_node_each_whichever_nodes_those_are() -> None:
    (spread,) = created(view(named(nodes=2), queues=queues()))["spec"]["template"]["spec"]["topologySpreadConstraints"]

    assert (2, "DoNotSchedule") == (spread["minDomains"], spread["whenUnsatisfiable"])


def labelled(queue: str) -> TrainingJob:
    plain = job()
    return msgspec.structs.replace(plain, metadata=msgspec.structs.replace(plain.metadata, labels={LABEL_QUEUE: queue}))


DEFAULTED = WorkspaceView(build.STORAGE, Defaults(queue_name="nlp"))
THREE = [local_queue(name) for name in ("vision", "nlp", "default")]


@pytest.mark.parametrize(
    ("of", "workspace", "local", "expected"),
    [
        (named(), DEFAULTED, THREE, "vision"),
        (labelled("vision"), DEFAULTED, THREE, "vision"),
        (job(), DEFAULTED, THREE, "nlp"),
        (job(), None, THREE, "default"),
        (job(), None, THREE[:2], None),
    ],
    ids=["named", "labelled", "of-the-workspace", "default", "none"],
)
def test_which_queue_a_run_goes_to(
    of: TrainingJob, workspace: WorkspaceView | None, local: Any, expected: str | None
) -> None:
    made = created(view(of, workspace=workspace, queues=queues(local=local), placed=["n0"]))

    assert expected == made["metadata"]["labels"].get(LABEL_QUEUE)
    assert (expected is not None) == made["spec"].get("suspend", False)


only_for_some = cluster_queue(
    checks=(), admissionChecksStrategy={"admissionChecks": [{"name": "stoker", "onFlavors": ["a100"]}]}
)


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (None, "KueueNotEnabled", "kueue.enabled"),
        (queues(local=()), "QueueNotFound", "create LocalQueue/vision"),
        (queues(cluster=()), "ClusterQueueNotFound", "create ClusterQueue/gpus"),
        (queues(cluster=(cluster_queue(checks=()),)), "QueueHasNoStokerCheck", "to spec.admissionChecksStrategy"),
        (queues(cluster=(cluster_queue(checks=("other",)),)), "QueueHasNoStokerCheck", "of ClusterQueue/gpus"),
        (queues(cluster=(only_for_some,)), "QueueHasNoStokerCheck", "such as stoker"),
        (queues(classes=("stoker-low",)), "PriorityClassMissing", "create WorkloadPriorityClass/stoker-medium"),
    ],
    ids=["not-enabled", "no-queue", "no-cluster-queue", "no-checks", "checks-of-others", "not-all-flavors", "no-class"],
)
def test_what_keeps_a_run_from_its_queue_is_told_at_once_with_the_fix(found: Any, reason: str, words: str) -> None:
    made = trainingjob.plan(view(named(), queues=found, placed=["n0"]), build.T0)

    assert made.status is not None
    assert made.status.waiting is not None
    assert reason == made.status.waiting.reason
    assert words in made.status.waiting.fix
    assert ["True"] == [one.status for one in made.status.conditions if one.type == "Stalled"]
    assert not [one for one in made.actions if isinstance(one, Create)]


def test_where_others_bring_nodes_a_queue_needs_no_check_of_stokers() -> None:
    pool = build.cluster(provider="External")

    made = created(view(named(), on=pool, queues=queues(cluster=(cluster_queue(checks=()),))))

    assert made["spec"]["suspend"] is True


# -- In the queue.


def test_a_full_queue_is_told_in_kueues_words_and_takes_no_nodes() -> None:
    seen = waiting_child(FULL, checks=())
    told = trainingjob.why(seen, NOW)
    made = trainingjob.plan(seen, build.T0 + 5)

    assert told is not None
    assert "QueueFull" == told.reason
    assert (
        "LocalQueue team/vision has no quota for the run (Pending): insufficient unused quota for cpu" in told.message
    )
    assert "raise nominalQuota of ClusterQueue/gpus" in told.fix
    assert made.status is not None
    assert "Queued" == made.status.phase
    assert ["QueueFull"] == [one.reason for one in made.status.conditions if one.type == "ComputeReady"]
    assert trainingjob.demand(seen, NOW) is None
    assert trainingjob.holdings(seen.children, ()) == {}


REQUEUED = ("Evicted", "True", "AdmissionCheck", 'Evicted due to AdmissionCheck in Retry state: "stoker" (no capacity)')


@pytest.mark.parametrize(
    ("seen", "reason", "words"),
    [
        (waiting_child(FULL, queues=queues()), "WorkloadMissing", "Kueue has made no Workload"),
        (waiting_child(checks=()), "InQueue", "has not come to the run yet"),
        (waiting_child(FULL, REQUEUED), "QueuedAgain", "(no capacity)"),
        (waiting_child(RESERVED), "WaitingForNodes", "asking cpu for a node"),
        (
            waiting_child(RESERVED, placement=Placement(reason="NodesBooting", message="1 being brought")),
            "NodesBooting",
            "1 being brought",
        ),
        (
            waiting_child(RESERVED, checks=({"name": "stoker", "state": "Ready"}, {"name": "b", "state": "Pending"})),
            "WaitingForChecks",
            "b is Pending",
        ),
        (waiting_child(RESERVED, ADMITTED, checks=({"name": "stoker", "state": "Ready"},)), "LeavingQueue", "lets"),
    ],
    ids=["no-workload", "not-come-to", "sent-back", "asking", "booting", "other-checks", "leaving"],
)
def test_a_run_in_a_queue_says_what_it_waits_for(seen: JobView, reason: str, words: str) -> None:
    told = trainingjob.why(seen, NOW)

    assert told is not None
    assert reason == told.reason
    assert words in told.message
    assert told.fix


@pytest.mark.parametrize(
    ("local", "over", "active", "reason"),
    [
        (local_queue(stopPolicy="Hold"), cluster_queue(), True, "QueueStopped"),
        (local_queue(), cluster_queue(stopPolicy="HoldAndDrain"), True, "QueueStopped"),
        (local_queue(), cluster_queue(inactive=("FlavorNotFound", "no flavor std")), True, "QueueInactive"),
        (local_queue(), cluster_queue(), False, "QueueDeactivated"),
    ],
)
def test_a_queue_that_lets_nobody_through_is_for_a_person_to_mend(
    local: Any, over: Any, active: bool, reason: str
) -> None:
    child = queued(named())
    told = queues((child, workload(child, FULL, active=active)), local=(local,), cluster=(over,))
    made = trainingjob.plan(view(named(), children=(child,), queues=told), build.T0 + 2)

    assert made.status is not None
    assert made.status.waiting is not None
    assert reason == made.status.waiting.reason
    assert made.status.waiting.fix
    assert ["True"] == [one.status for one in made.status.conditions if one.type == "Stalled"]


def test_a_queue_that_lost_stokers_check_is_told_of_before_it_lets_runs_through() -> None:
    child = queued(named())
    told = queues((child, workload(child, FULL)), cluster=(cluster_queue(checks=()),))

    assert "QueueHasNoStokerCheck" == reason_of(view(named(), children=(child,), queues=told))


def test_a_run_that_its_queue_does_not_let_through_in_time_ends() -> None:
    seen = waiting_child(FULL, of=named(limits={"queueTimeoutSeconds": 60}))

    assert trainingjob.plan(seen, build.T0 + 59).actions == ()
    late = trainingjob.plan(seen, build.T0 + 61)
    assert late.status is not None
    assert ["QueueTimedOut"] == [one.reason for one in late.status.attempts]


def test_the_time_in_a_queue_is_no_part_of_the_run() -> None:
    seen = waiting_child(FULL, of=named(limits={"timeoutSeconds": 60, "graceSeconds": 10}))

    assert "QueueFull" == reason_of(seen, build.T0 + 100_000)


# -- Out of the queue.


def test_with_quota_the_pool_is_asked_for_the_nodes_of_this_attempt() -> None:
    wanted = trainingjob.demand(waiting_child(RESERVED, of=named(nodes=2)), NOW)

    assert wanted is not None
    assert (1, 2) == (wanted.attempt, wanted.count)


def test_nodes_are_labelled_before_kueue_hears_of_them() -> None:
    seen = waiting_child(RESERVED, of=named(nodes=2), placed=["n0", "n1"])

    *labels, answer = trainingjob.plan(seen, NOW).actions

    assert [AssignNode("n0", build.UID, 1), AssignNode("n1", build.UID, 1)] == labels
    assert isinstance(answer, AnswerCheck)
    assert ("team", "stoker", "Ready", f"assigned.stoker.dev/{build.UID}.1") == (
        answer.namespace, answer.check, answer.state, answer.assigned,
    )  # fmt: skip


def test_a_label_of_a_plan_that_was_cut_off_goes_before_the_answer() -> None:
    """Else pods could come to a node that is another's by now."""
    seen = waiting_child(RESERVED, of=named(nodes=2), placed=["n0", "n1"], assigned={1: ("n0", "n9")})

    actions = trainingjob.plan(seen, NOW).actions

    assert (UnassignNode("n9", build.UID, 1), AssignNode("n1", build.UID, 1)) == actions[:2]
    assert "Ready" == actions[2].state  # type: ignore[union-attr]


def test_after_a_restart_nodes_that_are_labelled_are_the_answer() -> None:
    seen = waiting_child(RESERVED, assigned={1: ("n0",)})

    (answer,) = trainingjob.plan(seen, NOW).actions

    assert isinstance(answer, AnswerCheck)
    assert ("Ready", f"assigned.stoker.dev/{build.UID}.1") == (answer.state, answer.assigned)
    assert trainingjob.demand(seen, NOW) is None


def test_nodes_are_given_back_with_the_quota() -> None:
    seen = waiting_child(FULL, assigned={1: ("n0",)})

    assert (UnassignNode("n0", build.UID, 1),) == trainingjob.plan(seen, NOW).actions


@pytest.mark.parametrize(
    ("reason", "given_back"),
    [
        ("NoCapacity", True),
        ("PoolPaused", True),
        ("NotEnoughNodes", True),
        ("PoolFull", False),
        ("NodesBooting", False),
    ],
)
def test_the_quota_is_given_back_for_what_time_alone_does_not_mend(reason: str, given_back: bool) -> None:
    why_not = Placement(reason=reason, message="there are none", fix="add some")

    answers = trainingjob.plan(waiting_child(RESERVED, placement=why_not), NOW).actions

    said = f"{reason}: there are none; add some"
    assert ((AnswerCheck("team", "job-iris-0c0ffee0-1", "stoker", "Retry", said),) if given_back else ()) == answers


@pytest.mark.parametrize(("retries", "seconds"), [(1, 60), (3, 240), (40, 1800)])
def test_quota_that_nobody_else_takes_is_given_back_ever_more_seldom(retries: int, seconds: int) -> None:
    reset = {**PENDING, "retryCount": retries, "lastTransitionTime": build.stamp(10)}
    seen = waiting_child(RESERVED, placement=Placement(reason="PoolPaused", message="is paused"), checks=(reset,))

    early, late = (trainingjob.plan(seen, build.T0 + 10 + seconds + after) for after in (-1, 1))

    assert ((), build.T0 + 10 + seconds) == (early.actions, early.wake_at)
    assert ["Retry"] == [one.state for one in late.actions if isinstance(one, AnswerCheck)]
    assert "PoolPaused" == reason_of(seen)


def test_on_nodes_of_others_the_answer_names_none() -> None:
    seen = waiting_child(RESERVED, on=build.cluster(provider="External"), placed=[])

    (answer,) = trainingjob.plan(seen, NOW).actions

    assert isinstance(answer, AnswerCheck)
    assert ("Ready", "") == (answer.state, answer.assigned)


def test_a_child_that_named_its_nodes_before_kueue_took_it_keeps_them() -> None:
    """A LocalQueue `default` came in the moment between: Kueue put the child into it."""
    child = queued(job(), queue="default", nodes=("n0",))
    told = queues((child, workload(child, RESERVED, checks=(PENDING,))), local=(local_queue("default"),))

    (answer,) = trainingjob.plan(view(job(), children=(child,), queues=told), NOW).actions

    assert isinstance(answer, AnswerCheck)
    assert ("Ready", "") == (answer.state, answer.assigned)
    assert ("n0",) == trainingjob.holdings((child,), ())["cpu"][0].nodes


def test_a_child_that_was_let_through_is_an_attempt_like_any_other() -> None:
    owner = named()
    child = queued(owner, suspended=False)
    told = queues((child, workload(child, RESERVED, ADMITTED, checks=({"name": "stoker", "state": "Ready"},))))
    seen = view(owner, children=(child,), pods=(pod(of=owner, started=8),), queues=told, assigned={1: ("n0",)})

    made = trainingjob.plan(seen, NOW)

    assert made.status is not None
    assert "Running" == made.status.phase
    assert ("n0",) == made.status.attempts[0].nodes
    (held,) = trainingjob.holdings(seen.children, seen.pods, {(build.UID, 1): ("n0",)})["cpu"]
    assert ("n0",) == held.nodes


# -- Taken out again.

EVICTED = ("Evicted", "True", "Preempted", "Preempted to accommodate a workload (UID: 7) due to prioritization")
STOPPED = ("Evicted", "True", "ClusterQueueStopped", "The ClusterQueue is stopped")
OUT = ("Admitted", "False", "NoReservation", "The workload has no reservation")


@pytest.mark.parametrize(
    ("evicted", "pods", "reason", "counted", "interruptions"),
    [
        (EVICTED, True, "PreemptedByQueue", "Interruption", 1),
        (EVICTED, False, "PreemptedByQueue", "Interruption", 1),
        (STOPPED, True, "QueueStopped", "Neither", 0),
    ],
    ids=["preempted", "pods-gone-already", "queue-stopped"],
)
def test_a_run_that_kueue_takes_out_ends_the_one_way_and_goes_on(
    evicted: Any, pods: bool, reason: str, counted: str, interruptions: int
) -> None:
    owner, limit = named(status={"phase": "Running", "attempts": [{"number": 1}]}), queued(named())
    told = queues((limit, workload(limit, evicted, OUT, checks=(PENDING,))))
    running = {"children": (limit,), "pods": (pod(of=owner, started=3),) if pods else (), "queues": told}

    first = trainingjob.plan(view(owner, **running), NOW)
    assert first.status is not None
    assert [reason] == [entry.reason for entry in first.status.attempts]
    assert first.actions == ()

    recorded = named(status=first.status)
    second = trainingjob.plan(view(recorded, **running), NOW + 1)
    assert Delete("Job", "team", "iris-0c0ffee0-1", "uid-iris-0c0ffee0-1") in second.actions

    halted = build.seal(exit=build.exit_record(143, reason="Stopped"))
    third = trainingjob.plan(view(recorded, answers=Answering(seals={0: halted}), queues=queues()), NOW + 10)
    assert third.status is not None
    assert [(reason, counted)] == [(entry.reason, entry.counted) for entry in third.status.attempts]
    assert (0, interruptions) == (third.status.failures, third.status.interruptions)

    again = created(view(named(status=third.status), queues=queues()))
    assert ("iris-0c0ffee0-2", True) == (again["metadata"]["name"], again["spec"]["suspend"])


def test_quota_that_is_taken_before_the_run_began_ends_no_attempt() -> None:
    assert "QueuedAgain" == reason_of(waiting_child(FULL, EVICTED))


def test_a_run_that_is_suspended_leaves_its_queue() -> None:
    seen = waiting_child(FULL, of=named(suspend=True, status={"phase": "Queued", "attempts": [{"number": 1}]}))

    made = trainingjob.plan(seen, NOW)

    assert made.status is not None
    assert ["Suspended"] == [entry.reason for entry in made.status.attempts]


def test_a_command_that_has_ended_is_not_begun_again_for_the_queue() -> None:
    owner = named(status={"phase": "Finalizing", "attempts": [{"number": 1}]})
    child = queued(owner)
    told = queues((child, workload(child, EVICTED, OUT)))
    ended = pod(of=owner, started=3, exit_code=0, ended=12, phase="Running")

    made = trainingjob.plan(view(owner, children=(child,), pods=(ended,), queues=told), NOW)

    assert made.status is None or [""] == [entry.reason for entry in made.status.attempts]


# -- Kueue manages what names no queue.


def test_a_child_that_kueue_holds_without_a_queue_gives_its_nodes_back() -> None:
    held = queued(job(), queue="", nodes=("n0",))

    first = trainingjob.plan(view(job(), children=(held,), queues=queues()), NOW)
    assert first.status is not None
    assert ["NotQueued"] == [entry.reason for entry in first.status.attempts]
    second = trainingjob.plan(view(job(status=first.status), children=(held,), queues=queues()), NOW)
    assert isinstance(second.actions[0], Delete)


@pytest.mark.parametrize("found", [None, queues()], ids=["not-enabled", "enabled"])
def test_a_run_that_names_no_queue_where_it_must_is_told_so(found: Any) -> None:
    seen = view(job(status={"phase": "Queued", "attempts": [UNQUEUED]}), queues=found, placed=["n0"])
    made = trainingjob.plan(seen, NOW)

    assert made.status is not None
    assert made.status.waiting is not None
    assert ("Pending", "QueueMissing") == (made.status.phase, made.status.waiting.reason)
    assert "spec.queue.name" in made.status.waiting.fix
    assert build.T0 + 10 + QUEUE_AGAIN == made.wake_at
    assert trainingjob.demand(seen, NOW) is None


def test_it_goes_on_once_a_queue_is_named_and_is_tried_again_after_a_while() -> None:
    closed = {"phase": "Pending", "attempts": [UNQUEUED]}

    assert "iris-0c0ffee0-2" == created(view(named(status=closed), queues=queues()))["metadata"]["name"]
    assert trainingjob.demand(view(job(status=closed), queues=queues()), build.T0 + 11 + QUEUE_AGAIN) is not None


# -- The pool's side.


def test_a_label_of_an_attempt_that_is_over_goes() -> None:
    marked = build.node("n0", labels={names.assigned(build.UID, 1): "true"})
    pool = build.cluster(provider="Static")

    free = cluster.plan(ClusterView(pool, {"n0": marked}), NOW)
    held = cluster.plan(ClusterView(pool, {"n0": marked}, holdings=(Holding(build.UID, 1, ("n0",)),)), NOW)

    assert UnassignNode("n0", build.UID, 1) in free.plan.actions
    assert UnassignNode("n0", build.UID, 1) not in held.plan.actions


def test_the_plan_for_people_shows_the_queue() -> None:
    seen = waiting_child(FULL, checks=())
    shown = explain(seen, trainingjob.plan(seen, NOW), None, NOW)

    assert shown["facts"]["queue"] == {
        "name": "vision", "stokersChecks": ["stoker"],
        "workloads": [{"name": "job-iris-0c0ffee0-1", "active": True, "checks": [], "conditions": [FULL[0] + "=False: Pending"]}],
    }  # fmt: skip
