"""The idle time that a pool learns: the cheapest for the pauses that it saw, and kept over a restart."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.api.computecluster import LearnedIdle
from stoker.core import cluster as pools
from stoker.core import times
from stoker.core.cluster import learned
from stoker.core.cluster.learned import Rhythm
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, ScaleView
from stoker.core.plan import TaintLeaving
from tests.support import build

T0 = build.T0


def after(gaps: list[float], boot: float = 300.0) -> Rhythm:
    """What a pool of one node knows after pauses of these lengths."""
    rhythm, now = Rhythm(boots=(boot,)), T0
    for gap in gaps:
        rhythm = learned.demanded(learned.demanded(rhythm, 1, now), 0, now + 10)
        now += 10 + gap
    return learned.demanded(rhythm, 1, now)


def cost(gaps: list[float], idle: float, boot: float) -> float:
    return sum(gap if gap <= idle else idle + boot for gap in gaps)


@given(
    st.lists(st.floats(1, 20_000), min_size=learned.ENOUGH, max_size=60), st.sampled_from([30.0, 180.0, 900.0, 3600.0])
)
def test_the_learned_time_costs_little_more_than_the_best_in_hindsight(gaps: list[float], boot: float) -> None:
    """Lengths are known to a class (a tenth), and older pauses count a little less."""
    best = min(cost(gaps, idle, boot) for idle in (0.0, *gaps))

    assert cost(gaps, learned.cheapest(after(gaps, boot)), boot) <= 1.15 * best


@pytest.mark.parametrize(
    ("gaps", "least", "most"),
    [([20.0] * 40, 20, 25), ([20_000.0] * 40, 0, 0), ([20.0] * 30 + [20_000.0] * 10, 20, 25)],
    ids=["short", "long", "both"],
)
def test_a_node_is_kept_over_short_pauses_and_not_over_long_ones(gaps: list[float], least: float, most: float) -> None:
    assert least <= learned.cheapest(after(gaps)) <= most


def test_a_node_is_kept_as_long_as_a_boot_takes_until_enough_is_known() -> None:
    assert learned.cheapest(Rhythm()) == learned.USUAL_BOOT
    assert learned.cheapest(after([5.0] * (learned.ENOUGH - 1), boot=700.0)) == 700.0


def test_a_pause_counts_though_the_node_had_gone() -> None:
    """Demand tells it: two jobs ended together, and two nodes were asked for again an hour later."""
    rhythm = learned.demanded(learned.demanded(Rhythm(), 2, T0), 0, T0 + 60)

    assert learned.demanded(rhythm, 2, T0 + 3660).seen == 2


def test_the_level_that_fell_free_last_is_used_next() -> None:
    rhythm = learned.demanded(Rhythm(), 2, T0)
    rhythm = learned.demanded(rhythm, 1, T0 + 10)
    rhythm = learned.demanded(rhythm, 0, T0 + 100)

    rhythm = learned.demanded(rhythm, 1, T0 + 103)

    assert rhythm.freed == ((T0 + 10, 1),)


def test_a_boot_is_timed_from_the_asking_to_the_node_that_can_take_a_job() -> None:
    rhythm = learned.booted(Rhythm(), 2, T0)
    rhythm = learned.booted(rhythm, 1, T0 + 40)
    rhythm = learned.booted(rhythm, 0, T0 + 60)

    assert rhythm.boots == (40.0, 60.0)
    assert learned.boot_seconds(rhythm) == 60.0


def test_a_node_that_came_when_nobody_needed_it_is_idle_since_its_level_fell_free() -> None:
    rhythm = learned.demanded(learned.demanded(Rhythm(), 2, T0), 0, T0 + 50)

    assert list(learned.idle_since(rhythm, [T0 + 90, T0 + 50, T0 + 20])) == [T0 + 50, T0 + 50, T0 + 20]


@given(st.lists(st.floats(0, 1_000_000), max_size=80), st.lists(st.floats(0, 4000).map(round).map(float), max_size=20))
def test_what_was_learned_survives_being_written(gaps: list[float], boots: list[float]) -> None:
    rhythm = after(gaps)
    rhythm = learned.read(learned.written(rhythm))

    again = learned.read(learned.written(rhythm))

    assert again == rhythm
    assert learned.cheapest(again) == learned.cheapest(rhythm)


def test_what_is_written_fits_into_a_status() -> None:
    busy = after([learned.RATIO**n * 0.97 for n in range(learned.CLASSES) for _ in range(20)])

    assert len(learned.written(busy)) < 2048


@pytest.mark.parametrize(
    "text", ["", "2;1;;", "1;x;;", "1;5;9999:1;", "1;5;0:nan;", "1;5;0:-1;", "1;5;0:1;inf", "hello"]
)
def test_what_is_not_ours_to_read_is_as_good_as_nothing(text: str) -> None:
    assert learned.read(text) == Rhythm()


# -- In a pool.


def idle_pool(rhythm: Rhythm | None, **pool: Any) -> ClusterView:
    """One node that fell free at T0."""
    status = pool.pop("status", None)
    cluster = build.cluster(idlePolicy="Learned", **pool)
    if status is not None:
        cluster = msgspec.structs.replace(cluster, status=status)
    return ClusterView(
        cluster=cluster, nodes={"n0": build.node("n0")}, freed_at={"n0": T0}, scale=ScaleView(1), rhythm=rhythm
    )


def leaves(plan: ClusterPlan) -> bool:
    return any(isinstance(action, TaintLeaving) for action in plan.plan.actions)


@pytest.mark.parametrize(("longest", "expected"), [(3600, 60), (30, 30)])
def test_a_pool_lets_go_after_what_it_learned_and_no_later_than_it_may(longest: int, expected: float) -> None:
    rhythm = after([60.0] * 40)
    about = min(learned.cheapest(rhythm) - 6.0, longest)
    view = idle_pool(rhythm, idle=7, maxIdleSeconds=longest)

    assert expected - 6 <= about <= expected + 6
    assert not leaves(pools.plan(view, T0 + about - 1))
    assert pools.plan(view, T0 + about - 1).plan.wake_at == pytest.approx(T0 + about)
    assert leaves(pools.plan(view, T0 + about + 1))


def test_what_was_learned_comes_back_from_the_status() -> None:
    rhythm = after([60.0] * 40)
    status = msgspec.structs.replace(
        build.cluster().status, learned=LearnedIdle(at=times.rfc3339(T0), memory=learned.written(rhythm))
    )

    plan = pools.plan(idle_pool(None, status=status), T0 + 10)

    assert plan.plan.wake_at == pytest.approx(T0 + learned.cheapest(rhythm) - 6.0, abs=1)


def test_what_is_learned_is_written_once_an_hour() -> None:
    view = idle_pool(after([60.0] * 40))
    first = pools.plan(view, T0 + 1).plan.status
    assert first is not None
    assert first.learned is not None
    assert (first.learned.pauses, first.learned.boot_seconds) == (40, 300)
    later = idle_pool(after([60.0] * 50), status=first)

    soon, in_an_hour = pools.plan(later, T0 + 1800).plan.status, pools.plan(later, T0 + 3602).plan.status

    assert soon is not None, "what was used is shown"
    assert soon.learned == first.learned
    assert in_an_hour is not None
    assert in_an_hour.learned is not None
    assert in_an_hour.learned.pauses == 50


def test_a_fixed_pool_writes_nothing_of_it() -> None:
    view = ClusterView(cluster=build.cluster(), nodes={"n0": build.node("n0")}, scale=ScaleView(1))

    status = pools.plan(view, T0).plan.status

    assert status is not None
    assert status.learned is None


def test_a_plan_sees_what_jobs_want_come_and_go() -> None:
    """Two jobs of one node each, ten minutes apart, one after the other: one pause of ten minutes."""
    cluster, nodes = build.cluster(idlePolicy="Learned"), {"n0": build.node("n0")}
    moments: list[tuple[int, str | None]] = [(0, "a"), (60, None), (660, "b"), (700, None)]
    rhythm: Rhythm | None = None
    for at, job in moments:
        demands = (Demand(f"uid-{job}", "team", job, 1, 1, 0.0),) if job else ()
        plan = pools.plan(
            ClusterView(cluster, nodes, demands, scale=ScaleView(1), rhythm=rhythm, freed_at={"n0": T0}), T0 + at
        )
        rhythm = plan.rhythm

    assert rhythm is not None
    assert rhythm.seen == 1
    assert rhythm.weights[learned.class_of(600.0)] == 1.0


# -- Nodes kept for a gang that does not become whole.


def blocked(now: float, kept_since: float) -> ClusterPlan:
    """A gang of two on a pool of two nodes, one of which another job has."""
    view = ClusterView(
        build.cluster(most=2, idle=60, scaleUp={"partialHoldSeconds": 300}),
        {"n0": build.node("n0"), "n1": build.node("n1")},
        (Demand("uid-a", "team", "a", 1, 2, 0.0),), (Holding("h", 1, ("n0",), namespace="team"),),
        freed_at={"n1": T0}, scale=ScaleView(2), first=(("uid-a", 1),), kept_since={("uid-a", 1): T0 + kept_since},
    )  # fmt: skip
    return pools.plan(view, T0 + now)


def test_nodes_are_kept_for_a_gang_for_the_time_of_its_hold_and_then_go() -> None:
    assert not leaves(blocked(299, 0))
    assert blocked(299, 0).plan.wake_at == T0 + 300
    assert leaves(blocked(300, 0))


def test_the_gang_keeps_its_place_when_its_nodes_have_gone() -> None:
    plan = blocked(400, 0)

    assert plan.first == (("uid-a", 1),)
    assert plan.kept_since == {("uid-a", 1): T0}


def test_a_boot_may_take_as_long_as_the_pool_says() -> None:
    def state(ready_seconds: int) -> tuple[int, int]:
        late = build.node("n0", ready="False", created=-400, since=-400)
        cluster = build.cluster(scaleUp={"readySeconds": ready_seconds})
        status = pools.plan(ClusterView(cluster, {"n0": late}, scale=ScaleView(1)), T0).plan.status
        assert status is not None
        return status.nodes.preparing, status.nodes.unusable

    assert [state(500), state(300)] == [(1, 0), (0, 1)]
