"""When an attempt gives its nodes back at the latest: by its limit, read from its Job and pods alone."""

from typing import Any

import msgspec
import pytest

from stoker.api.kube import BatchJob, Pod
from stoker.api.trainingjob import TrainingJob
from stoker.core import trainingjob
from stoker.core.cluster.view import Holding
from stoker.core.plan import Create
from stoker.core.trainingjob.view import Defaults, Placement, WorkspaceView
from tests.support import build

LIMITED = build.job(nodes=2, limits={"timeoutSeconds": 1000, "graceSeconds": 60})
#: A pod may take so long to pull its image.
PULLS = 600


@pytest.mark.parametrize(
    ("limits", "default", "expected"),
    [
        ({"timeoutSeconds": 1000, "graceSeconds": 60}, None, 1000 + 60 + PULLS),
        ({"graceSeconds": 60}, 500, 500 + 60 + PULLS),
        ({}, None, None),
    ],
    ids=["its-own", "the-workspaces", "nobody-set-one"],
)
def test_a_job_asks_for_nodes_for_as_long_as_its_limit_and_its_start_take(
    limits: dict[str, int], default: int | None, expected: float | None
) -> None:
    workspace = WorkspaceView(build.STORAGE, defaults=Defaults(timeout_seconds=default))
    wanted = trainingjob.demand(build.view(build.job(limits=limits), workspace=workspace), build.T0 + 1)

    assert wanted is not None
    assert wanted.seconds == expected


def child_of(job: TrainingJob, placement: Placement) -> BatchJob:
    """The Job of its first attempt, as the plan makes it and the API server has it."""
    plan = trainingjob.plan(build.view(job, placement=placement), build.T0 + 1)
    manifest: Any = next(
        one.manifest for one in plan.actions if isinstance(one, Create) and one.manifest["kind"] == "Job"
    )
    made = msgspec.convert(manifest, BatchJob, strict=False)
    return msgspec.structs.replace(
        made, metadata=msgspec.structs.replace(made.metadata, creation_timestamp=build.stamp(2))
    )


def pods_of(child: BatchJob, *started: float | None, deleted: float | None = None) -> list[Pod]:
    annotations = child.metadata.annotations
    gone = build.stamp(deleted) if deleted is not None else None
    found = [build.pod(rank, LIMITED, on=f"n{rank}", started=at) for rank, at in enumerate(started)]
    return [
        msgspec.structs.replace(
            pod,
            metadata=msgspec.structs.replace(pod.metadata, annotations=annotations, deletion_timestamp=gone),
        )
        for pod in found
    ]


def only(children: list[BatchJob], pods: list[Pod]) -> Holding:
    (holding,) = trainingjob.holdings(children, pods)["cpu"]
    return holding


GIVEN = Placement(granted=True, nodes=("n0", "n1"))


def test_an_attempt_has_its_nodes_until_its_limit_after_its_start() -> None:
    child = child_of(LIMITED, GIVEN)

    assert only([child], []).ends_at == build.T0 + 2 + PULLS + 1060
    assert only([child], pods_of(child, 5, None)).ends_at == build.T0 + 2 + PULLS + 1060
    assert only([child], pods_of(child, 5, 9)).ends_at == build.T0 + 9 + 1060


def test_a_pods_limit_is_known_when_its_job_object_is_gone() -> None:
    child = child_of(LIMITED, GIVEN)

    assert only([], pods_of(child, 5, 9)).ends_at == build.T0 + 9 + 1060
    assert only([], pods_of(child, 5, 9, deleted=70)).ends_at == build.T0 + 70


def test_an_attempt_without_a_limit_has_no_end() -> None:
    job = build.job(nodes=2)
    child = child_of(job, GIVEN)

    assert only([child], pods_of(child, 5, 9)).ends_at is None
    assert "stoker.dev/limit-seconds" not in child.metadata.annotations


def test_the_pods_carry_the_limit_beside_the_users_annotations() -> None:
    pod = {"annotations": {"team": "vision"}}
    job = build.job(command={"pod": pod}, limits={"timeoutSeconds": 1000, "graceSeconds": 60})
    plan = trainingjob.plan(build.view(job, placed=["n0"]), build.T0 + 1)

    (made,) = [one for one in plan.actions if isinstance(one, Create)]
    assert made.manifest["spec"]["template"]["metadata"]["annotations"] == {
        "team": "vision", "stoker.dev/limit-seconds": "1060",
    }  # fmt: skip


def test_why_a_job_went_ahead_stands_on_its_job_object_and_comes_back_from_it() -> None:
    words = "it goes ahead of team/first, which is first in line"
    ahead = Placement(granted=True, nodes=("n0", "n1"), reason="Backfilled", message=words)

    child = child_of(LIMITED, ahead)

    assert child.metadata.annotations["stoker.dev/backfilled"] == words
    assert only([child], []).ahead == words
    assert only([child_of(LIMITED, GIVEN)], []).ahead == ""
