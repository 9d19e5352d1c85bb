"""Pools of single machines: an order is written down, given once, and never forgotten, whoever dies when."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stoker.core.cluster import ahead, launch
from stoker.core.plan import LaunchMachines, TaintLeaving, TaintPreempted, TerminateMachines
from tests.support import build
from tests.support.cloud import Cloud, cloud

TWO_TYPES = [
    {"name": "s", "resources": {"cpu": "4"}, "tier": "Spot"},
    {"name": "d", "resources": {"cpu": "4"}, "tier": "Dedicated"},
]


def intents(world: Cloud) -> list[tuple[str, int]]:
    return [(one.kind, one.count or len(one.ids)) for one in world.pool.status.intents]


def actions(world: Cloud, kind: type) -> list[Any]:
    assert world.plan is not None
    return [action for action in world.plan.plan.actions if isinstance(action, kind)]


def test_a_launch_is_written_down_before_it_is_ordered() -> None:
    world = cloud()
    world.submit(2)

    world.operate()
    assert (world.launches, intents(world)) == ([], [("Launch", 2)])

    world.operate()
    assert world.launches == [LaunchMachines("cpu", "cpu-uidcpu-1", 2, "m", "Dedicated", False)]


def test_an_order_is_done_when_its_machines_are_listed() -> None:
    world = cloud()
    world.submit(2)
    world.operate(3)

    assert intents(world) == []
    assert len(world.machines) == 2


def test_an_order_whose_reply_was_lost_is_given_again_under_its_token() -> None:
    world = cloud()
    world.submit(2)
    world.operate(2)
    world.hidden = set(world.machines)
    world.operate()
    assert len(world.launches) == 1

    world.pass_time(launch.AGAIN)
    world.operate()

    assert [order.token for order in world.launches] == ["cpu-uidcpu-1", "cpu-uidcpu-1"]
    assert len(world.machines) == 2


def test_a_gang_is_one_atomic_order_where_the_provider_can_and_single_nodes_are_one_order() -> None:
    world = cloud(most=9)
    world.atomic = True
    for count in (3, 1, 1, 2):
        world.submit(count)

    world.operate(2)

    assert sorted((order.count, order.atomic) for order in world.launches) == [(2, False), (2, True), (3, True)]


def test_what_cannot_be_had_waits_with_the_providers_words_and_is_asked_for_again() -> None:
    world = cloud()
    world.faults["m"] = "Capacity"
    job = world.submit(1)
    world.operate(4)

    assert world.reason(job) == "CapacityUnavailable"
    assert world.plan is not None
    assert "CodeCapacity: refused" in world.plan.waits[job, 1].message
    (entry,) = world.pool.status.backoff
    assert (entry.attempts, entry.code, entry.fault) == (1, "CodeCapacity", "Capacity")
    world.pass_time(20)
    world.operate(2)
    assert len(world.launches) == 1
    world.pass_time(20)
    world.operate(2)
    assert len(world.launches) == 2


def test_each_failure_in_a_row_doubles_the_pause_and_a_success_ends_it() -> None:
    world = cloud()
    world.faults["m"] = "Quota"
    world.submit(1)
    tries = []
    for _ in range(1500):
        known = len(world.launches)
        world.operate(2)
        if len(world.launches) > known:
            tries.append(world.now)
        world.pass_time(5)
    pauses = [round((after - before) / 10) * 10 for before, after in pairwise(tries)]

    assert pauses[0] < 45
    assert all(after >= 1.3 * before for before, after in pairwise(pauses[:5]))
    assert max(pauses) <= 1800 * 1.2 + 10
    world.faults.clear()
    world.settle(4000, every=20)
    assert world.pool.status.backoff == ()
    assert len(world.holdings) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("Capacity", "CapacityUnavailable"), ("Quota", "ProviderQuotaExceeded"), ("Auth", "CredentialsRefused"),
        ("Config", "InstanceTypeRefused"), ("Throttled", "ProviderThrottled"), ("Transient", "ProviderUnavailable"),
    ],
)  # fmt: skip
def test_each_fault_has_its_reason_and_its_fix(fault: Any, reason: str) -> None:
    world = cloud()
    world.faults["m"] = fault
    job = world.submit(1)
    world.operate(4)

    assert world.plan is not None
    assert world.plan.waits[job, 1].reason == reason
    assert world.plan.waits[job, 1].fix
    assert reason in {problem.reason for problem in world.pool.status.problems}


def test_a_gang_takes_the_other_tier_after_the_time_of_its_fallback() -> None:
    world = cloud(instanceTypes=TWO_TYPES, fallback={"toTier": "Dedicated", "afterSeconds": 120})
    world.faults["s"] = "Capacity"
    job = world.submit(1)
    world.settle(100)
    assert {order.instance_type for order in world.launches} == {"s"}

    world.settle(120)

    assert job in world.holdings
    assert [one.tier for one in world.machines.values()] == ["Dedicated"]


def test_without_a_fallback_a_gang_keeps_its_tier() -> None:
    world = cloud(instanceTypes=TWO_TYPES)
    world.faults["s"] = "Capacity"
    job = world.submit(1)
    world.settle(900)

    assert (world.reason(job), world.machines) == ("CapacityUnavailable", {})


def test_a_second_type_of_the_tier_is_taken_at_once_if_it_offers_as_much() -> None:
    types = [
        {"name": "a", "resources": {"cpu": "4"}},
        {"name": "small", "resources": {"cpu": "2"}},
        {"name": "b", "resources": {"cpu": "8"}},
    ]
    world = cloud(instanceTypes=types)
    world.faults["a"] = "Capacity"
    job = world.submit(2)
    world.settle(200)

    assert job in world.holdings
    assert {one.instance_type for one in world.machines.values()} == {"b"}


def test_a_job_that_names_its_type_gets_no_other() -> None:
    types = [{"name": "a", "resources": {"cpu": "4"}}, {"name": "b", "resources": {"cpu": "8"}}]
    world = cloud(instanceTypes=types)
    world.faults["a"] = "Capacity"
    job = world.submit(1, kind="a")
    world.settle(200)

    assert world.reason(job) == "CapacityUnavailable"


def test_half_a_gang_is_let_go_after_its_hold_and_others_may_have_its_nodes_meanwhile() -> None:
    world = cloud(scaleUp={"partialHoldSeconds": 200}, idle=0)
    world.capacity = 1
    gang = world.submit(2)
    world.settle(150)
    assert len(world.alive) == 1
    single = world.submit(1)
    world.operate()
    assert single not in world.holdings

    world.settle(100)
    assert single in world.holdings
    world.end(single)
    world.settle(120)
    assert (world.alive, world.reason(gang)) == ([], "CapacityUnavailable")

    world.capacity = 2
    world.settle(2500, every=5)
    assert gang in world.holdings


def test_no_more_nodes_boot_at_a_time_than_the_pool_may_have() -> None:
    world = cloud(most=9, scaleUp={"maxParallel": 2})
    jobs = [world.submit(1) for _ in range(5)]
    gang = world.submit(3)
    most = 0
    for _ in range(300):
        world.operate()
        most = max(most, sum(one.state == "Booting" for one in world.machines.values()))
        world.pass_time(2)

    assert {*jobs, gang} == set(world.holdings)
    assert most == 3


def test_a_machine_that_never_becomes_a_node_is_ended_and_told() -> None:
    world = cloud(scaleUp={"readySeconds": 120})
    world.no_node = True
    job = world.submit(1)
    world.operate(3)
    world.pass_time(121)
    world.operate()
    assert "MachineNeverJoined" in {problem.reason for problem in world.pool.status.problems}
    world.no_node = False

    world.settle(300)

    assert job in world.holdings
    assert len(world.machines) == 1


def test_a_node_whose_machine_has_gone_is_deleted_once_two_lists_miss_it() -> None:
    world = cloud(idle=3600)
    job = world.submit(1)
    world.settle(100)
    world.end(job)
    world.vanish(next(iter(world.machines)))
    world.operate()
    assert len(world.nodes) == 1

    world.pass_time(10)
    world.operate(2)

    assert world.nodes == {}


def test_nothing_is_removed_while_too_many_nodes_are_unready() -> None:
    world = cloud(most=8, idle=0)
    jobs = [world.submit(1) for _ in range(8)]
    world.settle(120)
    for job in jobs:
        world.end(job)
    for node in list(world.nodes)[:5]:
        world.silence(node)
    world.settle(300)
    assert len(world.alive) == 8
    assert "TooManyUnready" in {problem.reason for problem in world.pool.status.problems}

    for node, found in world.nodes.items():
        world.nodes[node] = msgspec.structs.replace(found, status=build.node(node).status)
    world.settle(120)
    assert world.alive == []


def test_nothing_is_removed_while_the_list_is_suddenly_short() -> None:
    world = cloud(most=8, idle=60)
    jobs = [world.submit(1) for _ in range(8)]
    world.settle(120)
    for job in jobs[:3]:
        world.end(job)
    world.hidden = set(list(world.machines)[:6])
    world.settle(200)
    assert len(world.alive) == 8
    assert "MachinesVanished" in {problem.reason for problem in world.pool.status.problems}

    world.hidden = set()
    world.settle(200)
    assert len(world.alive) == 5


def test_a_pool_that_cannot_be_listed_is_left_as_it_is_and_says_so() -> None:
    world = cloud(idle=0)
    job = world.submit(1)
    world.settle(100)
    world.end(job)
    world.unlisted = True
    other = world.submit(3)
    world.settle(100)

    assert len(world.alive) == 1
    assert world.reason(other) == "Unreachable"
    assert [one.status for one in world.pool.status.conditions if one.type == "Ready"] == ["False"]


def test_a_pod_that_lands_after_the_order_was_written_keeps_its_node() -> None:
    world = cloud(idle=0)
    job = world.submit(1)
    world.settle(100)
    world.end(job)
    while not world.pool.status.intents:
        world.operate()
        world.pass_time(1)
    world.foreign = set(world.nodes)

    world.settle(60)

    assert len(world.alive) == 1
    assert all(taint.key != "stoker.dev/leaving" for node in world.nodes.values() for taint in node.spec.taints)


def test_a_preempted_node_is_given_to_nobody() -> None:
    world = cloud(idle=3600)
    job = world.submit(1)
    world.settle(100)
    world.end(job)
    world.preempt(next(iter(world.machines)))
    other = world.submit(1)
    world.operate()

    assert other not in world.holdings
    assert world.pool.status.nodes.preempted == 1


def test_the_pods_of_a_node_that_is_taken_back_are_told_once() -> None:
    world = cloud()
    world.submit(1)
    world.settle(100)
    (node,) = world.nodes
    assert actions(world, TaintPreempted) == []

    world.preempt(next(iter(world.machines)))
    world.operate()
    assert actions(world, TaintPreempted) == [TaintPreempted("cpu", node)]

    world.operate()
    assert actions(world, TaintPreempted) == []


def test_a_boot_that_nobody_waits_for_any_more_is_ended_where_the_idle_time_is_learned() -> None:
    world = cloud(idlePolicy="Learned", maxIdleSeconds=0)
    job = world.submit(1)
    world.operate(3)
    assert len(world.alive) == 1

    world.end(job)
    world.operate(3)

    assert world.alive == []


@pytest.mark.parametrize(("policy", "expected"), [("Learned", 4 + 3), ("Fixed", 4)])
def test_nodes_are_brought_ahead_of_a_burst_where_the_idle_time_is_learned(policy: str, expected: int) -> None:
    world = cloud(most=20, idlePolicy=policy)
    for _ in range(4):
        world.submit(1)
        world.operate(2)
        world.pass_time(5)

    assert len(world.alive) == expected
    world.waiting.clear()
    world.settle(400)
    assert world.alive == [], "a burst that ends leaves nothing"


def test_a_job_and_a_large_gang_are_no_burst() -> None:
    world = cloud(most=20, idlePolicy="Learned")
    for count in (1, 8):
        world.submit(count)
    world.operate(3)

    assert len(world.alive) == 9


def test_what_is_brought_ahead_stays_within_the_pool() -> None:
    world = cloud(most=7, idlePolicy="Learned")
    for _ in range(6):
        world.submit(1)
    world.settle(100)

    assert world.peak == 7


def test_a_boot_that_nobody_waits_for_is_kept_where_the_idle_time_is_fixed() -> None:
    world = cloud()
    job = world.submit(1)
    world.operate(3)
    world.end(job)
    world.operate(3)

    assert len(world.alive) == 1


def test_min_nodes_are_launched_and_kept() -> None:
    world = cloud(least=2, idle=0)
    world.settle(300)

    assert len(world.alive) == 2


def test_a_status_that_was_lost_names_no_order_twice() -> None:
    world = cloud(idle=3600)
    world.submit(1)
    world.settle(100)
    world.pool = msgspec.structs.replace(world.pool, status=build.cluster().status)
    world.submit(1)
    world.settle(100)

    assert [order.token for order in world.launches] == ["cpu-uidcpu-1", "cpu-uidcpu-2"]
    assert len(world.holdings) == 2


def test_a_paused_pool_gives_nothing_and_says_so() -> None:
    world = cloud(paused=True)
    job = world.submit(1)
    world.settle(60)

    assert (world.reason(job), world.machines) == ("PoolPaused", {})


def test_a_pool_that_is_deleted_waits_for_its_jobs_and_ends_its_machines_first() -> None:
    world = cloud(least=1, idle=3600)
    job = world.submit(2)
    world.settle(100)
    waiting = world.submit(1)
    world.delete_pool()
    world.settle(100)
    assert (len(world.alive), world.gone, world.reason(waiting)) == (2, False, "PoolDeleted")
    (ready,) = [one for one in world.pool.status.conditions if one.type == "Ready"]
    assert "1 jobs" in ready.message

    world.end(job)
    world.settle(120)

    assert (world.machines, world.gone) == ({}, True)


def test_a_pool_without_machines_is_held_by_nothing() -> None:
    world = cloud()
    world.settle(60)
    job = world.submit(1)
    world.settle(100)
    assert world.pool.metadata.finalizers
    world.end(job)
    world.settle(200)

    assert world.pool.metadata.finalizers == ()


# -- Killed anywhere.


@pytest.mark.parametrize("steps", range(12))
def test_an_operator_killed_at_any_step_leaves_no_orphan_after_two_passes(steps: int) -> None:
    """A gang comes and goes; the operator dies `steps` steps after each of its starts, again and again."""
    world = cloud(idle=0)
    job = world.submit(2)
    for _ in range(60):
        world.steps = steps
        world.operate(3)
        world.restart()
        world.operate(2)
        wanted = sum(one.count for one in world.waiting.values()) + sum(len(h.nodes) for h in world.holdings.values())
        assert len(world.alive) <= max(2, wanted), "nothing is launched twice"
        world.pass_time(2)
    assert job in world.holdings
    world.end(job)
    for _ in range(60):
        world.steps = steps
        world.operate(3)
        world.restart()
        world.operate(2)
        world.pass_time(2)

    assert (world.alive, world.nodes, world.removed, intents(world)) == ([], {}, [], [])


# -- Any day.


class Days(RuleBasedStateMachine):
    """Jobs, troubles of the provider, deaths of the operator, in any order."""

    world: Cloud

    @initialize(
        most=st.integers(1, 5), least=st.integers(0, 1), idle=st.sampled_from([0, 20, 120]), atomic=st.booleans(),
        policy=st.sampled_from(["Fixed", "Learned"]), parallel=st.sampled_from([None, 1, 3]),
    )  # fmt: skip
    def begin(self, most: int, least: int, idle: int, atomic: bool, policy: str, parallel: int | None) -> None:
        scale_up = {"readySeconds": 150, "partialHoldSeconds": 100, **({"maxParallel": parallel} if parallel else {})}
        self.world = cloud(most=most, least=least, idle=idle, idlePolicy=policy, scaleUp=scale_up)
        self.world.atomic = atomic
        self.ceiling = 0

    @rule(count=st.integers(1, 4))
    def submit(self, count: int) -> None:
        self.world.submit(count)

    @precondition(lambda self: self.world.holdings or self.world.waiting)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.world.end(data.draw(st.sampled_from(sorted([*self.world.holdings, *self.world.waiting]))))

    @rule(passes=st.integers(1, 3), seconds=st.sampled_from([0.1, 2.0, 7.0, 45.0, 200.0]))
    def operate(self, passes: int, seconds: float) -> None:
        for _ in range(passes):
            self._pass()
        self.world.pass_time(seconds)

    @rule(steps=st.integers(0, 6))
    def die(self, steps: int) -> None:
        self.world.steps = steps
        self._pass()
        self.world.restart()

    def _pass(self) -> None:
        spec, before = self.world.pool.spec, len(self.world.alive)
        wanted = sum(one.count for one in self.world.waiting.values() if one.count <= spec.max_instances)
        wanted += sum(len(holding.nodes) for holding in self.world.holdings.values())
        # A node that its kubelet left may be replaced, and one that had its notice.
        lame = sum(one.status.conditions[0].status != "True" for one in self.world.nodes.values())
        lame += sum(one.state == "Preempted" for one in self.world.machines.values())
        tokens = dict(self.world.tokens)
        spare = ahead.nodes(self.world.waiting.values(), self.world.now) if spec.idle_policy == "Learned" else 0
        self.world.operate()
        if self.world.tokens != tokens:
            open_orders = {intent.token: intent.count for intent in self.world.pool.status.intents}
            assert len(self.world.alive) <= max(
                before, self.ceiling, wanted + lame + spare, spec.min_instances + lame
            ), f"more than anybody wanted: {open_orders}"
        # What was written down while more was wanted may still be ordered.
        pending = sum(
            intent.count - self.world.tokens.get(intent.token, 0)
            for intent in self.world.pool.status.intents
            if intent.kind == "Launch"
        )
        self.ceiling = len(self.world.alive) + pending
        assert self.ceiling <= max(spec.max_instances, before) + lame

    @rule(fault=st.sampled_from([None, "Capacity", "Quota", "Transient"]), capacity=st.integers(0, 6))
    def trouble(self, fault: Any, capacity: int) -> None:
        self.world.faults = {"m": fault} if fault else {}
        self.world.capacity = capacity

    @rule(unlisted=st.booleans(), no_node=st.booleans())
    def provider(self, unlisted: bool, no_node: bool) -> None:
        self.world.unlisted, self.world.no_node = unlisted, no_node

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data(), what=st.sampled_from(["vanish", "silence", "preempt", "foreign"]))
    def harm(self, data: st.DataObject, what: str) -> None:
        machine = data.draw(st.sampled_from(self.world.alive))
        if what == "preempt":
            self.world.preempt(machine.id)
        elif what == "vanish":
            self.world.vanish(machine.id)
        elif machine.node in self.world.nodes:
            if what == "silence":
                self.world.silence(machine.node)
            else:
                self.world.foreign.add(machine.node)

    @invariant()
    def every_job_that_waits_is_told_why(self) -> None:
        if (plan := getattr(self, "world", None) and self.world.plan) is not None:
            assert all(wait.reason and wait.message and wait.fix for wait in plan.waits.values())
            members = self.world.pool.status.members
            assert all(one.reason and one.message and one.since for one in members)

    def teardown(self) -> None:
        """Once all is well and nobody wants anything, nothing is left but minInstances."""
        world = getattr(self, "world", None)
        if world is None:
            return
        world.faults, world.capacity, world.unlisted, world.no_node = {}, 1000, False, False
        world.foreign, world.waiting, world.holdings = set(), {}, {}
        for machine in [one for one in world.machines.values() if one.state == "Preempted"]:
            world.vanish(machine.id)
        for name, node in world.nodes.items():
            if name in {one.node for one in world.machines.values()}:
                world.nodes[name] = msgspec.structs.replace(node, status=build.node(name).status)
        world.settle(8000, every=20)
        least = world.pool.spec.min_instances
        assert (len(world.alive), len(world.nodes), world.pool.status.intents) == (least, least, ())
        world.operate()
        assert world.plan is not None
        assert not [
            one for one in world.plan.plan.actions if isinstance(one, LaunchMachines | TerminateMachines | TaintLeaving)
        ]


TestDays = Days.TestCase
TestDays.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
