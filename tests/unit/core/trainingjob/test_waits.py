"""Every wait has a reason, words with the value in them, and a fix where a person can do something."""

from typing import Any

import pytest

from stoker.core.inputdigest import listing_digest
from stoker.core.plan import (
    Ask,
    ImageDigest,
    InputFiles,
    Posted,
    Recorded,
    Refused,
    ResultWritten,
    Seals,
    SnapshotPresent,
    Unavailable,
)
from stoker.core.serverless import Choice
from stoker.core.trainingjob import plan, why
from stoker.core.trainingjob.seen import PULL_PATIENCE
from stoker.core.trainingjob.view import JobView, Placement, WorkspaceView
from tests.support import build
from tests.support.build import Answering, child, job, pod, view

IMAGE = ImageDigest(build.NAMESPACE, build.IMAGE, "linux/amd64")
CODE = SnapshotPresent(build.NAMESPACE, build.SNAPSHOT)
CHILD = "iris-0c0ffee0-1"


def reason_of(seen: JobView, after: float = 1.0) -> str | None:
    waiting = why(seen, build.T0 + after)
    return waiting.reason if waiting else None


def in_pod(shape: dict[str, Any]) -> dict[str, Any]:
    return {"command": {"pod": shape}}


OBSTACLES = [
    (view(workspace=WorkspaceView("")), "NoStorage", "namespace team has no storage"),
    (
        view(workspace=WorkspaceView("s3://x", problem=("StorageUrlTaken", "s3://x is team-b's"))),
        "StorageUrlTaken",
        "team-b",
    ),
    (view(job(compute=None), without_cluster=True), "NoCompute", "may use: cpu, gpu"),
    (view(job(compute="gpuu"), without_cluster=True), "ComputeNotFound", 'no ComputeCluster named "gpuu"'),
    (view(job(compute="local"), without_cluster=True), "ComputeNotFound", "reserved"),
    (
        view(job(compute="serverless"), without_cluster=True, choice=Choice(rejected={"gpu": "it is paused"})),
        "NoPoolFits",
        "serverless found no pool for this job: gpu: it is paused",
    ),
    (view(job(), without_cluster=True, clusters=()), "ComputeNotFound", "may use none"),
    (view(on=build.cluster(allowedNamespaces={"matchNames": ["other"]})), "ComputeNotAllowed", "namespace team"),
    (view(job(command={"resources": {"instanceType": "xl"}})), "InstanceTypeUnknown", 'no type "xl"; it has: m'),
    (
        view(
            job(command={"resources": {"requests": {"cpu": "100", "memory": "1Gi"}}}),
            on=build.cluster(provider="Scale"),
        ),
        "RequestsLargerThanNode",
        "type m of cpu offers: cpu 100 of ",
    ),
    (view(job(nodes=5)), "GangLargerThanPool", "needs 5 nodes at once and cpu may have 4"),
    (view(job(**in_pod({"securityContext": {"runAsUser": 0}}))), "RootNotAllowed", "asks for root"),
    (view(job(**in_pod({"securityContext": {"runAsNonRoot": False}}))), "RootNotAllowed", "asks for root"),
    (
        view(job(command={"environment": {"name": "torhc"}}), environments=("torch",)),
        "EnvironmentNotFound",
        'named "torhc" in namespace team; there are: torch',
    ),
    (view(job(command={"environment": {"spec": {"pip": ["torch"]}}})), "EnvironmentWithoutImage", "names no image"),
    (view(job(command={"command": "echo ${{inputs.lr}}"})), "InvalidCommand", "names no declared input"),
]


@pytest.mark.parametrize(
    ("seen", "reason", "words"), OBSTACLES, ids=[f"{r}-{n}" for n, (_, r, _) in enumerate(OBSTACLES)]
)
def test_what_only_the_user_can_mend_is_told_at_once_with_the_fix(seen: JobView, reason: str, words: str) -> None:
    made = plan(seen, build.T0)

    assert made.status is not None
    assert made.status.waiting is not None
    assert made.status.waiting.reason == reason
    assert words in made.status.waiting.message
    assert made.status.waiting.fix or reason == "StorageUrlTaken"
    facts = {entry.type: entry.status for entry in made.status.conditions}
    assert (facts["Ready"], facts["Reconciling"], facts["Stalled"]) == ("False", "False", "True")


ANSWERS = [
    (CODE, Refused("SnapshotNotFound", "no such snapshot"), "SnapshotNotFound", True),
    (CODE, Unavailable("SnapshotUnavailable", "store away"), "SnapshotUnavailable", False),
    (IMAGE, Refused("BaseImageNotFound", "404"), "BaseImageNotFound", True),
    (IMAGE, Refused("ArchitectureMismatch", "for linux/arm64"), "ArchitectureMismatch", True),
    (IMAGE, Refused("BaseImageUnauthorized", "401"), "BaseImageUnauthorized", True),
    (IMAGE, Unavailable("RegistryUnreachable", "no route"), "RegistryUnreachable", False),
    (Recorded(build.NAMESPACE, build.KEY), Unavailable("StorageUnavailable", "503"), "StorageUnavailable", False),
    (Posted("Job", build.NAMESPACE, CHILD), Refused("NameTaken", "someone's"), "NameTaken", True),
    (Posted("Service", build.NAMESPACE, CHILD), Refused("PodsRejected", "policy"), "PodsRejected", True),
]


@pytest.mark.parametrize(("question", "answer", "reason", "at_once"), ANSWERS, ids=[row[2] for row in ANSWERS])
def test_an_answer_that_is_no_is_told_in_its_own_words(question: Any, answer: Any, reason: str, at_once: bool) -> None:
    seen = view(answers=Answering({question: answer}), placed=["n0"])

    assert reason == reason_of(seen)
    assert (plan(seen, build.T0 + 1).status is not None) == at_once
    later = plan(seen, build.T0 + 5).status
    assert later is not None
    assert later.waiting is not None
    assert later.waiting.message == answer.message


def test_data_outside_the_workspace_is_refused_with_the_place_to_copy_it_to() -> None:
    seen = view(job(inputs={"data": {"path": "s3://elsewhere/x/"}}))

    waiting = why(seen, build.T0)

    assert waiting is not None
    assert waiting.reason == "InputNotAllowed"
    assert "spec.inputs.data.path: s3://elsewhere/x/" in waiting.message
    assert "s3://runs/team/" in waiting.fix


@pytest.mark.parametrize("path", ["s3://runs/team/../other/", "s3://runs/team-b/x", "s3://runs/team"])
def test_a_path_that_only_looks_like_ours_is_not_allowed(path: str) -> None:
    assert reason_of(view(job(inputs={"data": {"path": path}}))) == "InputNotAllowed"


def test_an_input_that_is_not_there_is_told() -> None:
    path = f"{build.STORAGE}/data/"
    question = InputFiles(build.NAMESPACE, path, False)
    answers = Answering({question: Refused("InputNotFound", "nothing below s3://runs/team/data/")})

    assert reason_of(view(job(inputs={"data": {"path": path}}), answers=answers)) == "InputNotFound"


@pytest.mark.parametrize("path", [f"{build.STORAGE}/data/", f"snapshot:{build.SNAPSHOT}"])
def test_data_of_another_digest_than_the_job_names_stops_it(path: str) -> None:
    held = {"path": path, "digest": "sha256:" + "0" * 64}

    assert reason_of(view(job(inputs={"data": held}))) == "InputChanged"


def test_data_of_the_digest_that_the_job_names_goes() -> None:
    held = {"path": f"{build.STORAGE}/data/", "digest": listing_digest(build.INPUT_FILES)}

    assert why(view(job(inputs={"data": held})), build.T0) == why(
        view(job(inputs={"data": {"path": held["path"]}})), build.T0
    )


def test_while_nothing_is_answered_it_says_what_is_looked_up() -> None:
    waiting = why(view(answers=Answering(silent=(ImageDigest, SnapshotPresent))), build.T0)

    assert waiting is not None
    assert (waiting.reason, waiting.message) == ("Preparing", "looking up the code, the image, the record")


def test_the_pools_reason_is_the_jobs_reason() -> None:
    seen = view(placement=Placement(reason="NodesBooting", message="waiting for 1 node of cpu", fix=""))

    assert reason_of(seen) == "NodesBooting"
    assert reason_of(view()) == "WaitingForNodes"
    assert reason_of(view(placed=["n0"])) == "CreatingPods"


@pytest.mark.parametrize("provider", ["Static", "External"])
def test_nodes_that_stoker_does_not_bring_may_be_larger_than_their_type_says(provider: str) -> None:
    seen = view(job(command={"resources": {"requests": {"cpu": "100"}}}), on=build.cluster(provider=provider))

    assert "RequestsLargerThanNode" != reason_of(seen)


def test_a_namespace_without_pools_is_not_told_to_take_one_of_these() -> None:
    none, two = (why(view(job(), without_cluster=True, clusters=pools), build.T0) for pools in ((), ("gpu", "tpu")))

    assert none is not None
    assert two is not None
    assert ("create ComputeCluster/cpu", True) == (none.fix, two.fix.endswith("or submit again with one of these"))


QUOTA = 'Error creating: pods "iris-0c0ffee0-1-0-abcde" is forbidden: exceeded quota: none, requested: pods=1'
UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "message": "0/1 nodes", "lastTransitionTime": build.stamp(2),
}  # fmt: skip
BACKING_OFF = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}
PULLING = {"waiting": {"reason": "ErrImagePull", "message": "401"}}

OPEN = [
    ("PodsRejected", 2.0, {"pods": (), "events": (build.rejected(QUOTA),)}, "forbidden: exceeded quota: none"),
    ("PodsNotCreated", 5.0, {"pods": ()}, f"Job {CHILD} has 0 of 1 pods"),
    ("PodsStarting", 2.0, {"pods": ()}, "0 of 1 pods have started"),
    ("PodsStarting", 9.0, {"pods": (pod(),)}, "0 of 1 pods have started"),
    ("ImagePullFailed", 9.0, {"pods": (pod(main=BACKING_OFF),)}, "container main (ImagePullBackOff)"),
    ("ImagePullFailed", 9.0, {"pods": (pod(fetch=PULLING),)}, "container fetch (ErrImagePull): 401"),
    ("PodsStarting", 9.0, {"pods": (pod(on="", conditions=[UNSCHEDULABLE]),)}, "0 of 1"),
    (
        "WaitingForAutoscaler", 12.0,
        {"pods": (pod(on="", conditions=[UNSCHEDULABLE]),), "on": build.cluster(provider="External")}, "1 of 1 pods",
    ),
    ("SavingOutputs", 20.0, {"pods": (pod(started=3, saving=12),)}, "being saved"),
    (None, 20.0, {"pods": (pod(started=3),)}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "after", "members", "words"), OPEN, ids=[f"{r[0]}-{n}" for n, r in enumerate(OPEN)])
def test_an_open_attempt_says_what_its_pods_wait_for(
    reason: str | None, after: float, members: dict[str, Any], words: str
) -> None:
    waiting = why(view(children=(child(),), **members), build.T0 + after)

    assert reason == (waiting.reason if waiting else None)
    assert words in (waiting.message if waiting else "")


def test_the_pod_name_that_changes_with_every_try_is_left_out() -> None:
    waiting = why(view(children=(child(),), events=(build.rejected(QUOTA),)), build.T0 + 2)

    assert waiting is not None
    assert "abcde" not in waiting.message


def test_a_store_that_is_away_at_the_end_is_why_the_run_waits_in_finalizing() -> None:
    ended = pod(started=3, exit_code=0, ended=12)
    away = Unavailable("StorageUnavailable", "503", retry_at=build.T0 + 60)
    first = view(children=(child(),), pods=(ended,), answers=Answering(silent=(Seals,)))
    (ask,) = [action.question for action in plan(first, build.T0 + 13).actions]  # type: ignore[union-attr]

    seen = view(children=(child(),), pods=(ended,), answers=Answering({ask: away}, silent=(Seals,)))

    made = plan(seen, build.T0 + 13)
    assert (made.actions, made.status) == ((), None)
    assert made.wake_at is not None
    assert made.wake_at <= build.T0 + 60
    assert reason_of(seen, 13) == "StorageUnavailable"


def test_a_result_that_cannot_be_written_keeps_the_run_from_being_over() -> None:
    question = ResultWritten(build.NAMESPACE, build.KEY)
    answers = Answering({question: Unavailable("StorageUnavailable", "503", retry_at=0.0)}, seals={0: build.seal()})
    seen = view(children=(child(),), pods=(pod(started=3, exit_code=0),), answers=answers)

    made = plan(seen, build.T0 + 20)

    assert [type(action.question) for action in made.actions] == [ResultWritten]  # type: ignore[union-attr]
    assert made.status is not None
    assert made.status.phase == "Finalizing"


SECRET_JOB = job(
    inputs={"token": {"secretRef": {"name": "hf", "key": "token"}}},
    command={
        "env": [
            {"name": "WANDB", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "wandb"}}},
            {"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "urls", "key": "main"}}},
        ],
        "envFrom": [{"secretRef": {"name": "more"}}, {"configMapRef": {"name": "urls"}}],
    },
)
LACKING = [
    (
        'secret "hf" not found', "SecretNotFound",
        'there is no Secret "hf" in namespace team; '
        "spec.inputs.token.secretRef, spec.command.env[WANDB].valueFrom needs it",
        "kubectl create secret generic hf -n team --from-literal=token=…",
    ),
    (
        "couldn't find key wandb in Secret team/hf", "SecretKeyNotFound",
        'Secret "hf" in namespace team has no key "wandb"; spec.command.env[WANDB].valueFrom needs it',
        "kubectl edit secret hf -n team",
    ),
    (
        'secret "more" not found', "SecretNotFound", "spec.command.envFrom[0] needs it",
        "kubectl create secret generic more -n team --from-literal=KEY=…",
    ),
    (
        # As the API server says it, where the kubelet keeps no cache.
        'secrets "more" not found', "SecretNotFound", 'there is no Secret "more"', "kubectl create secret generic more",
    ),
    (
        'configmap "urls" not found', "ConfigMapNotFound", "spec.command.env[URL].valueFrom, spec.command.envFrom[1]",
        "kubectl create configmap urls -n team --from-literal=main=…",
    ),
    (
        "couldn't find key main in ConfigMap team/urls", "ConfigMapKeyNotFound", 'ConfigMap "urls" in namespace team',
        "kubectl edit configmap urls -n team",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("told", "reason", "words", "fix"), LACKING, ids=[row[0] for row in LACKING])
def test_a_secret_that_is_missing_is_told_with_the_field_and_how_to_make_it(
    told: str, reason: str, words: str, fix: str
) -> None:
    stuck = pod(of=SECRET_JOB, main={"waiting": {"reason": "CreateContainerConfigError", "message": told}})

    made = plan(view(SECRET_JOB, children=(child(SECRET_JOB),), pods=(stuck,)), build.T0 + 9).status

    assert made is not None
    assert made.waiting is not None
    assert made.waiting.reason == reason
    assert words in made.waiting.message
    assert fix in made.waiting.fix
    assert "starts by itself" in made.waiting.fix
    assert {entry.type: entry.status for entry in made.conditions}["Stalled"] == "True"


def test_a_container_that_cannot_be_made_for_another_cause_is_told_in_the_nodes_words() -> None:
    told = "container has runAsNonRoot and image will run as root"
    stuck = pod(main={"waiting": {"reason": "CreateContainerConfigError", "message": told}})

    made = plan(view(children=(child(),), pods=(stuck,)), build.T0 + 9).status

    assert made is not None
    assert made.waiting is not None
    assert made.waiting.reason == "ContainerNotCreated"
    assert told in made.waiting.message
    assert {entry.type: entry.status for entry in made.conditions}["Stalled"] == "False"


@pytest.mark.parametrize("late", [0.0, 3600.0])
def test_a_question_whose_time_has_come_is_asked_and_does_not_wake_the_plan_again(late: float) -> None:
    """While the old answer stands, a moment that has passed would make the plan come back at once, for ever."""
    seen = view(answers=Answering({IMAGE: Refused("BaseImageNotFound", "404", retry_at=build.T0)}))

    made = plan(seen, build.T0 + late)

    assert Ask(IMAGE) in made.actions
    assert made.wake_at is None or made.wake_at > build.T0 + late


def stuck_on(told: str, since: float | None = 3.0, reason: str = "SecretNotFound", **more: Any) -> JobView:
    """An attempt whose container cannot be made, as its status has said since then."""
    waiting = {"waiting": {"reason": reason, "message": "", "since": build.stamp(since)}} if since is not None else {}
    stuck = pod(of=SECRET_JOB, main={"waiting": {"reason": "CreateContainerConfigError", "message": told}})
    held = job(
        inputs={"token": {"secretRef": {"name": "hf", "key": "token"}}},
        status={"phase": "Starting", **waiting, **more},
    )  # fmt: skip
    return view(held, children=(child(held),), pods=(stuck,))


@pytest.mark.parametrize(
    ("seen", "after", "stopped"),
    [
        (stuck_on('secret "hf" not found'), 3 + PULL_PATIENCE - 1, ""),
        (stuck_on('secret "hf" not found'), 3 + PULL_PATIENCE, "SecretNotFound"),
        (stuck_on("couldn't find key token in Secret team/hf", reason="SecretKeyNotFound"), 5000, "SecretKeyNotFound"),
        (stuck_on("runAsNonRoot and root", reason="ContainerNotCreated"), 5000, "ContainerNotCreated"),
        # A pull may have taken long: only what is known to have lasted counts.
        (stuck_on('secret "hf" not found', None), 5000, ""),
        (stuck_on('secret "hf" not found', 3.0, "PodsStarting"), 5000, ""),
    ],
    ids=["patient", "over", "key", "other", "new", "after a pull"],
)
def test_what_never_comes_ends_the_attempt_and_frees_its_nodes(seen: JobView, after: float, stopped: str) -> None:
    made = plan(seen, build.T0 + after)

    reasons = [entry.reason for entry in made.status.attempts] if made.status is not None else [""]
    assert [stopped] == reasons


def test_a_plan_looks_again_when_its_patience_is_over() -> None:
    for since, expected in ((3.0, 3 + PULL_PATIENCE), (None, 20 + PULL_PATIENCE)):
        wake_at = plan(stuck_on('secret "hf" not found', since), build.T0 + 20).wake_at
        assert wake_at is not None
        assert wake_at <= build.T0 + expected


def test_an_attempt_that_lacked_a_secret_says_which_it_asked_for() -> None:
    entry = {"number": 1, "reason": "SecretNotFound"}
    held = job(
        inputs={"token": {"secretRef": {"name": "hf", "key": "token"}}}, status={"phase": "Starting", "attempts": [entry]}
    )  # fmt: skip
    sealed = build.seal(code=None, complete=False, reason="CommandNotStarted", message="the command never ran")
    answers = Answering(seals={0: sealed})
    made = plan(view(held, children=(child(held, ended="Failed"),), answers=answers), build.T0 + 700).status

    assert made is not None
    assert ("Failed", "SecretNotFound") == (made.phase, made.reason)
    assert "hf (spec.inputs.token.secretRef)" in made.message
