"""Every node that is kept, and every job that waits, is told why, and what a person can do about it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from stoker.api.computecluster import ComputeClusterStatus, Member
from stoker.core import cluster as pools
from stoker.core import trainingjob
from stoker.core.cluster.view import ClusterView, Demand, Holding, ScaleView
from stoker.core.environment.builds import Build
from stoker.core.plan import ImageDigest, Posted, Refused, Unavailable
from stoker.core.trainingjob.view import WorkspaceView
from tests.support import build, build_envs
from tests.support.cloud import cloud

T0 = build.T0


def shown(view: ClusterView, now: float = T0) -> ComputeClusterStatus:
    status = pools.plan(view, now).plan.status
    assert status is not None
    return status


def member(view: ClusterView, name: str = "n0", now: float = T0) -> Member:
    return next(one for one in shown(view, now).members if one.name == name)


def pool(**spec: Any) -> ClusterView:
    """Two free nodes since T0."""
    nodes = {name: build.node(name) for name in ("n0", "n1")}
    return ClusterView(build.cluster(**spec), nodes, freed_at=dict.fromkeys(nodes, T0), scale=ScaleView(2))


WANTS = Demand("uid-a", "team", "a", 1, 1, 0.0)
BIG = Demand("uid-b", "team", "b", 1, 3, 0.0)
HELD = (Holding("uid-c", 1, ("n0",), namespace="team"),)

KEPT: list[tuple[str, ClusterView, float, str, float | None]] = [
    ("idle", pool(), 10, "IdleTime", 120),
    ("job", replace(pool(), holdings=HELD), 10, "HasJob", None),
    ("promised", replace(pool(), demands=(BIG,)), 10, "PromisedToGang", None),
    ("pods", replace(pool(), occupied=frozenset({"n0"})), 500, "HasPodsOfOthers", None),
    ("min", pool(least=2), 500, "KeptForMinInstances", None),
    ("warm", pool(warm={"instances": 2}), 500, "KeptWarm", None),
    ("grew", pool(scaleDown={"delayAfterAddSeconds": 700}), 500, "GrewLately", 600),
    ("first", pool(scaleDown={"maxParallel": 1}), 500, "IdleTime", 120),
    ("static", pool(provider="Static"), 500, "NeverRemoved", None),
    ("unseen", replace(pool(), scale=ScaleView(problem=("NotFound", "gone"))), 500, "ProviderUnknown", None),
]  # fmt: skip


def test_a_node_that_waits_for_others_to_leave_says_so() -> None:
    assert member(pool(scaleDown={"maxParallel": 1}), "n1", now=T0 + 500).reason == "OthersLeaveFirst"


@pytest.mark.parametrize(("view", "now", "reason", "until"), [row[1:] for row in KEPT], ids=[row[0] for row in KEPT])
def test_a_node_says_why_it_is_kept_and_what_comes_next(
    view: ClusterView, now: float, reason: str, until: float | None
) -> None:
    told = member(view, now=T0 + now)

    assert (reason, build.stamp(until) if until is not None else "") == (told.reason, told.until)
    assert told.message


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (build.node("n0", ready="Unknown"), "NodeNotReady"),
        (build.node("n0", cordoned=True), "NodeCordoned"),
        (build.node("n0", ready="False", created=-10, since=-10), "Booting"),
        (build.node("n0", taints=[build.leaving(8)]), "LastLook"),
        (build.node("n0", annotations={"cluster.x-k8s.io/delete-machine": "9"}), "Leaving"),
    ],
)  # fmt: skip
def test_a_node_that_takes_no_job_says_why(node: Any, reason: str) -> None:
    view = ClusterView(build.cluster(idle=0), {"n0": node}, freed_at={"n0": T0}, scale=ScaleView(1))

    assert member(view, now=T0 + 10).reason == reason


def test_nodes_kept_for_a_gang_say_until_when() -> None:
    view = replace(
        pool(most=2), holdings=HELD, demands=(replace(BIG, count=2),), first=(("uid-b", 1),),
        kept_since={("uid-b", 1): T0},
    )  # fmt: skip
    told = member(view, "n1", T0 + 300)

    assert (told.reason, told.until, told.job) == ("KeptForGang", build.stamp(600), "uid-b")


def test_a_reason_keeps_its_time_while_it_lasts() -> None:
    first = shown(replace(pool(), holdings=HELD), T0)
    view = replace(pool(), holdings=HELD)
    later = replace(view, cluster=msgspec.structs.replace(view.cluster, status=first))

    again = member(later, now=T0 + 400)

    assert (again.reason, again.since) == ("HasJob", build.stamp(0))


# -- The stuck cases: each is told at the next plan, with its fix.

Told = tuple[str, str]


def of_pool(view: ClusterView, now: float = T0) -> Callable[[], list[Told]]:
    """What a pool says to its jobs, and shows as problems."""

    def told() -> list[Told]:
        plan = pools.plan(view, now)
        problems = [(one.reason, one.message) for one in (plan.plan.status.problems if plan.plan.status else ())]
        return [(wait.reason, wait.fix) for wait in plan.waits.values()] + problems

    return told


def of_provider(fault: Any) -> Callable[[], list[Told]]:
    """What a job is told five seconds after it was submitted to a provider that refuses."""

    def told() -> list[Told]:
        world = cloud()
        world.faults["m"] = fault
        world.submit(1)
        world.settle(5, every=1)
        world.operate()
        assert world.plan is not None
        return [(wait.reason, wait.fix) for wait in world.plan.waits.values()]

    return told


def of_job(**members: Any) -> Callable[[], list[Told]]:
    """What a job's status says five seconds after it was submitted."""

    def told() -> list[Told]:
        status = trainingjob.plan(build.view(**members), T0 + 5).status
        waiting = status.waiting if status is not None else None
        return [(waiting.reason, waiting.fix)] if waiting is not None else []

    return told


def of_build() -> Callable[[], list[Told]]:
    """The same of a job whose image is being built since its second second."""
    asked = build_envs.wanted(pull_secrets=())
    label, spec_key = build_envs.label_of(asked), build_envs.keys_of(asked)[1]
    try_of_it = build_envs.job_of(label, created=1.0, spec_key=spec_key)
    return of_job(
        of=build.job(command={"environment": {"spec": {"image": build.IMAGE, "pip": ["numpy==2.1"]}}}),
        workspace=WorkspaceView(build.STORAGE, means=build_envs.MEANS),
        answers=build.Answering(build_envs.answers(asked, build_envs.miss())),
        builds={label: Build((try_of_it,), (build_envs.pod_of(try_of_it),))},
    )


def _used_up() -> ClusterView:
    usage = {"at": build.stamp(0), "todayNodeHours": "2.0"}
    return replace(pool(budget={"nodeHoursPerDay": "1", "action": "Queue"}, status={"usage": usage}), demands=(WANTS,))


OLD = msgspec.structs.replace(
    build.node("n0"),
    status=msgspec.structs.replace(
        build.node("n0").status,
        node_info=msgspec.structs.replace(build.node("n0").status.node_info, kubelet_version="v1.27.4"),
    ),
)
IMAGE = ImageDigest(build.NAMESPACE, build.IMAGE, "linux/amd64")
CHILD = Posted("Job", build.NAMESPACE, "iris-0c0ffee0-1")

STUCK: dict[str, tuple[str, Callable[[], list[Told]]]] = {
    "quota": ("ProviderQuotaExceeded", of_provider("Quota")),
    "capacity": ("CapacityUnavailable", of_provider("Capacity")),
    "bad credentials": ("CredentialsRefused", of_provider("Auth")),
    "type unknown to the provider": ("InstanceTypeRefused", of_provider("Config")),
    "type unknown to the pool": (
        "InstanceTypeUnknown",
        of_job(of=build.job(command={"resources": {"instanceCount": 1, "instanceType": "huge"}})),
    ),
    "max reached": (
        "PoolFull", of_pool(replace(pool(most=2), holdings=(*HELD, Holding("h", 1, ("n1",))), demands=(WANTS,))),
    ),
    "line before it": (
        "WaitingForTurn",
        of_pool(
            replace(
                pool(most=2), holdings=(*HELD, Holding("h", 1, ("n1",))),
                demands=(WANTS, replace(WANTS, uid="uid-z", name="z", since=9.0)),
            )
        ),
    ),
    "budget reached": ("BudgetReached", of_pool(_used_up())),
    "gang too big": ("GangLargerThanPool", of_pool(replace(pool(most=2), demands=(BIG,)))),
    "unready node": ("NodeNotReady", of_pool(replace(pool(), nodes={"n0": build.node("n0", ready="Unknown")}))),
    "registry unreachable": (
        "RegistryUnreachable",
        of_job(answers=build.Answering({IMAGE: Unavailable("RegistryUnreachable", "no route")})),
    ),
    "build running": ("Building", of_build()),
    "paused": ("PoolPaused", of_pool(replace(pool(paused=True), demands=(WANTS,)))),
    "pods rejected": (
        "PodsRejected",
        of_job(answers=build.Answering({CHILD: Refused("PodsRejected", "exceeded quota", "raise it")}), placed=["n0"]),
    ),
    "kubelet too old": ("KubeletTooOld", of_pool(replace(pool(), nodes={"n0": OLD}, scale=ScaleView(1)))),
    "overstated type": (
        "InstanceTypeOverstated",
        of_pool(replace(pool(), nodes={"n0": build.node("n0", allocatable={"cpu": "2", "memory": "16Gi"})})),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "told"), STUCK.values(), ids=STUCK)
def test_what_is_stuck_is_told_with_its_fix(reason: str, told: Callable[[], list[Told]]) -> None:
    found = dict(told())

    assert reason in found
    assert found[reason]
