"""A static node gets its next job only once its scratch folder was found empty, whenever the operator dies."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.api import names
from stoker.api.kube import Node, Pod
from stoker.core import cluster as pools
from stoker.core.cluster import scrub
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding
from stoker.core.plan import Action, Delete, MarkScratch, ScrubNode
from tests.support import build

T0 = build.T0
PATH = "/mnt/scratch"
CLEAN = f"clean {PATH}"


def cluster(**storage: Any) -> Any:
    return build.cluster(provider="Static", storage={"scratchPath": PATH, **storage})


def node(name: str = "n0", told: str = "", **more: Any) -> Node:
    return build.node(name, annotations={names.ANNOTATION_SCRATCH: told} if told else {}, **more)


def pod(name: str, phase: str = "Running", *, age: float = 0.0, state: dict[str, Any] | None = None) -> Pod:
    statuses = [{"name": "scrub", "state": state}] if state is not None else []
    return msgspec.convert(
        {
            "metadata": {
                "name": name, "namespace": scrub.NAMESPACE, "uid": f"uid-{name}", "labels": {names.LABEL_SCRUB: "cpu"},
                "creationTimestamp": build.stamp(-age),
            },
            "status": {"phase": phase, "containerStatuses": statuses},
        },
        Pod,
    )  # fmt: skip


def plan(view: ClusterView) -> ClusterPlan:
    return pools.plan(view, T0)


def view(*nodes: Node, scrubs: tuple[Pod, ...] | None = (), jobs: int = 0, **storage: Any) -> ClusterView:
    demands = tuple(Demand(f"{n}0000000-x", "team", f"job{n}", 1, 1, float(n)) for n in range(jobs))
    return ClusterView(cluster(**storage), {one.metadata.name: one for one in nodes}, demands, scrubs=scrubs)


def pod_of(one: Node, **storage: Any) -> str:
    return scrub.pod_name(cluster(**storage), one)


def told(made: ClusterPlan) -> tuple[str, str]:
    assert made.plan.status is not None
    (member,) = made.plan.status.members
    return member.state, member.reason


def test_a_node_that_says_nothing_is_scrubbed_before_its_first_job() -> None:
    made = plan(view(node(), jobs=1))

    assert (made.assignments, made.before) == ({}, ())
    assert made.plan.actions == (ScrubNode("cpu", "n0", PATH, pod_of(node())),)
    assert told(made) == ("Preparing", "Scrubbing")
    assert made.plan.status is not None
    assert made.plan.status.allocation_state == "Steady", "no node comes or goes"
    assert made.meter is not None
    assert (made.meter.rates.nodes, made.meter.rates.booting, made.meter.rates.idle) == (1, 0, 0)
    assert "being scrubbed" in made.waits["00000000-x", 1].message


def test_while_the_pod_works_nothing_is_done() -> None:
    made = plan(view(node(), scrubs=(pod(pod_of(node()), state={"running": {}}, age=5000),), jobs=1))

    assert (made.assignments, made.plan.actions, told(made)) == ({}, (), ("Preparing", "Scrubbing"))


def test_the_proof_is_written_down_and_then_the_pod_goes() -> None:
    done = pod(pod_of(node()), "Succeeded")
    made = plan(view(node(), scrubs=(done,), jobs=1))
    assert (made.assignments, made.plan.actions) == ({}, (MarkScratch("cpu", "n0", "", CLEAN),))

    clean = plan(view(node(told=CLEAN), scrubs=(done,), jobs=1))
    assert set(clean.assignments.values()) == {("n0",)}
    assert clean.plan.actions == (Delete("Pod", scrub.NAMESPACE, done.metadata.name, done.metadata.uid),)


def test_a_node_says_that_it_is_used_before_anybody_is_told_that_it_is_given() -> None:
    made = plan(view(node(told=CLEAN), jobs=1))

    assert made.before == (MarkScratch("cpu", "n0", CLEAN, "used 00000000-1"),)


def test_a_node_that_was_given_and_has_no_child_yet_is_not_scrubbed_under_its_job() -> None:
    given_away = replace(
        view(node(told="used 00000000-1"), jobs=1), holdings=(Holding("00000000-x", 1, ("n0",), bound=False),)
    )
    made = plan(given_away)

    assert set(made.assignments.values()) == {("n0",)}
    assert (made.before, made.plan.actions) == ((), ())


def test_a_node_with_a_job_that_says_it_is_clean_is_told_otherwise() -> None:
    made = plan(replace(view(node(told=CLEAN)), holdings=(Holding("abcdef01-x", 2, ("n0",)),)))

    assert made.before == (MarkScratch("cpu", "n0", CLEAN, "used abcdef01-2"),)


def test_the_outcome_of_a_former_time_is_none_of_this_time() -> None:
    former = pod(pod_of(node()), "Succeeded")
    used = node(told="used 00000000-1")
    made = plan(view(used, scrubs=(former,)))

    assert made.plan.actions == (
        ScrubNode("cpu", "n0", PATH, pod_of(used)),
        Delete("Pod", scrub.NAMESPACE, former.metadata.name, former.metadata.uid),
    )


def test_another_path_is_another_folder() -> None:
    made = plan(view(node(told=CLEAN), scratchPath="/mnt/other"))

    assert made.plan.actions == (
        ScrubNode("cpu", "n0", "/mnt/other", pod_of(node(told=CLEAN), scratchPath="/mnt/other")),
    )


def test_a_failure_keeps_the_node_out_is_told_with_its_fix_and_tried_again() -> None:
    state = {"terminated": {"exitCode": 1, "message": "1 entries are left", "finishedAt": build.stamp(-10)}}
    failed = pod(pod_of(node()), "Failed", state=state, age=20)
    made = plan(view(node(), scrubs=(failed,), jobs=1))

    assert (made.assignments, made.plan.actions) == ({}, ())
    assert told(made) == ("Unusable", "ScrubFailed")
    assert made.plan.status is not None
    (problem,) = made.plan.status.problems
    for words in ("n0", PATH, "1 entries are left", "empty it on the node", failed.metadata.name):
        assert words in problem.message
    assert made.plan.wake_at == T0 + 290
    assert made.waits["00000000-x", 1].reason == "NotEnoughNodes"

    later = pools.plan(view(node(), scrubs=(failed,)), T0 + 290)
    assert later.plan.actions == (Delete("Pod", scrub.NAMESPACE, failed.metadata.name, failed.metadata.uid),)


@pytest.mark.parametrize(("age", "expected"), [(59, ("Preparing", "Scrubbing")), (60, ("Unusable", "ScrubPending"))])
def test_a_pod_that_does_not_begin_is_told(age: float, expected: tuple[str, str]) -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    made = plan(view(node(), scrubs=(pod(pod_of(node()), "Pending", age=age, state=waiting),)))

    assert told(made) == expected
    if age >= 60:
        assert made.plan.status is not None
        assert "ErrImagePull: no such image" in made.plan.status.problems[0].message
    else:
        assert made.plan.wake_at == T0 + 1


def test_where_nothing_may_be_scrubbed_no_node_is_given_and_the_setting_is_named() -> None:
    made = plan(view(node(), scrubs=None, jobs=1))

    assert (made.assignments, told(made)) == ({}, ("Unusable", "ScrubNotEnabled"))
    assert made.plan.status is not None
    assert "scratchScrub.enabled" in made.plan.status.problems[0].message


@pytest.mark.parametrize("idle", [node(ready="False", since=-50), node(cordoned=True)], ids=["not-ready", "cordoned"])
def test_a_node_that_could_take_no_job_is_not_scrubbed(idle: Node) -> None:
    assert not [one for one in plan(view(idle)).plan.actions if isinstance(one, ScrubNode)]


def test_a_pool_that_scrubs_no_more_leaves_no_pod() -> None:
    left = pod("scrub-left")
    made = plan(view(node(), scrubs=(left,), scrub="Never", jobs=1))

    assert set(made.assignments.values()) == {("n0",)}
    assert made.before == ()
    assert made.plan.actions == (Delete("Pod", scrub.NAMESPACE, "scrub-left", "uid-scrub-left"),)


def test_the_pod_sees_that_folder_alone_and_can_do_little() -> None:
    made = scrub.pod(ScrubNode("cpu", "n0", PATH, "scrub-1"), cluster(), "agent:1", ("pull",))
    spec = made["spec"]
    (container,) = spec["containers"]

    assert spec["volumes"] == [{"name": "scratch", "hostPath": {"path": PATH, "type": "Directory"}}]
    assert (spec["automountServiceAccountToken"], spec.get("hostPID"), spec.get("hostNetwork")) == (False, None, None)
    assert container["securityContext"] == {
        "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]},
    }  # fmt: skip
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchFields"][0]["values"] == ["n0"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == cluster().metadata.uid
    assert (container["image"], spec["imagePullSecrets"]) == ("agent:1", [{"name": "pull"}])


# -- Days with an operator that dies.


class Killed(Exception):
    """The operator dies here."""


@dataclass
class World:
    """Two nodes with a folder each: what lies there, by whom. A job that starts where something lies is a leak."""

    told: dict[str, str] = field(default_factory=lambda: {"n0": "", "n1": ""})
    dirty: dict[str, bool] = field(default_factory=lambda: {"n0": True, "n1": True})
    pods: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> node, phase
    waiting: list[Demand] = field(default_factory=list)
    running: dict[str, Holding] = field(default_factory=dict)
    loose: dict[str, Holding] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    started: int = 0
    steps: int | None = None

    def submit(self, number: int) -> None:
        self.waiting.append(Demand(f"{number:08x}-x", "team", f"job{number}", 1, 1, T0 + number))

    def view(self) -> ClusterView:
        scrubs = tuple(
            pod(name, phase, state={"running": {}} if phase == "Running" else None)
            for name, (_, phase) in self.pods.items()
        )
        nodes = {name: node(name, text) for name, text in self.told.items()}
        held = (*self.running.values(), *self.loose.values())
        return ClusterView(cluster(), nodes, tuple(self.waiting), held, scrubs=scrubs, **self.memory)

    def operate(self) -> None:
        try:
            made = plan(self.view())
            for action in made.before:
                self.step(action)
            # From here on jobs know of their nodes, and one makes its child before anything else is done.
            for (uid, attempt), nodes in made.assignments.items():
                self.loose[uid] = Holding(uid, attempt, nodes, bound=False)
            for uid in list(self.loose):
                self.step(None)
                self.start(uid)
            for action in made.plan.actions:
                self.step(action)
            self.memory = {"freed_at": made.freed_at, "meter": made.meter}
        except Killed:
            self.memory, self.loose, self.steps = {}, {}, None

    def step(self, action: Action | None) -> None:
        if self.steps is not None:
            if self.steps == 0:
                raise Killed
            self.steps -= 1
        match action:
            case MarkScratch(node=name, former=former, value=value):
                self.told[name] = value if self.told[name] == former else self.told[name]
            case ScrubNode(node=name, pod=called):
                assert not any(name in held.nodes for held in self.running.values()), "scrubbed under a job"
                self.pods.setdefault(called, (name, "Running"))
            case Delete(kind="Pod", name=called):
                self.pods.pop(called)

    def start(self, uid: str) -> None:
        holding = self.loose.pop(uid)
        (name,) = holding.nodes
        assert not self.dirty[name], f"{uid} found what another left on {name}"
        self.dirty[name] = True
        self.started += 1
        self.waiting = [one for one in self.waiting if one.uid != uid]
        self.running[uid] = replace(holding, bound=True)

    def pods_end(self, *, well: bool) -> None:
        for called, (name, phase) in self.pods.items():
            if phase == "Running":
                self.pods[called] = (name, "Succeeded" if well else "Failed")
                self.dirty[name] = not well and self.dirty[name]

    def pods_are_deleted(self) -> None:
        """As the message of a failure says."""
        self.pods = {called: one for called, one in self.pods.items() if one[1] != "Failed"}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["submit", "end", "pods", "fail", "delete", "operate", "kill0", "kill1", "kill2", "unwant"]),
        max_size=60,
    )
)
def test_no_job_finds_what_another_left_whenever_the_operator_dies(script: list[str]) -> None:
    world, number = World(), 0
    for word in script:
        match word:
            case "submit":
                number += 1
                world.submit(number)
            case "end" if world.running:
                world.running.pop(next(iter(world.running)))
            case "pods" | "fail":
                world.pods_end(well=word == "pods")
            case "delete":
                world.pods_are_deleted()
            case "unwant":
                world.waiting = world.waiting[1:]
            case "operate":
                world.operate()
            case "kill0" | "kill1" | "kill2":
                world.steps = int(word[-1])
                world.operate()
                world.steps = None
    for _ in range(40):
        world.operate()
        world.pods_are_deleted()
        world.pods_end(well=True)
        world.running.clear()

    assert world.waiting == [], "and everybody gets a node in the end"
