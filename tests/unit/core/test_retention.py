"""What a store need not keep: the rule in tables, and its promises for any store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.retention import DAY, GRACE, Plan, Policy, Run, Snapshot, plan

NOW = 1_800_000_000.0
OLD = NOW - GRACE - 1


def ended(key: str, days: float, **more: object) -> Run:
    """A run that ended so many days ago."""
    return Run(key, finished_at=NOW - days * DAY, **more)  # type: ignore[arg-type]


def gone(plan: Plan) -> list[str]:
    return [one.what for one in plan.runs]


RUNS = [ended("a", 1), ended("b", 10), ended("c", 20), ended("d", 30)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), []),
        (Policy(keep_last=2), ["c", "d"]),
        (Policy(keep_last=0), ["a", "b", "c", "d"]),
        (Policy(keep_last=9), []),
        (Policy(keep_days=10), ["c", "d"]),
        (Policy(keep_days=0), ["a", "b", "c", "d"]),
        (Policy(keep_last=1, keep_days=15), ["c", "d"]),
        (Policy(keep_last=3, keep_days=5), ["d"]),
        (Policy(keep_last=0, keep_days=25), ["d"]),
    ],
)
def test_which_finished_runs_go(policy: Policy, expected: list[str]) -> None:
    assert expected == gone(plan(RUNS, (), policy, NOW))


def test_each_experiment_keeps_its_own_last() -> None:
    runs = [ended("a", 1, experiment="x"), ended("b", 2, experiment="x"), ended("c", 3, experiment="y"), ended("d", 4)]

    assert ["b"] == gone(plan(runs, (), Policy(keep_last=1), NOW))


@pytest.mark.parametrize(("run", "live"), [(Run("a"), ()), (ended("a", 99), ("a",)), (Run("a", removing=True), ("a",))])
def test_what_has_not_finished_or_still_exists_stays(run: Run, live: tuple[str, ...]) -> None:
    assert [] == gone(plan([run], (), Policy(0, 0), NOW, live=live))


def test_a_removal_that_was_cut_off_goes_on_whatever_the_policy() -> None:
    found = plan([Run("a", finished_at=NOW, removing=True)], (), Policy(), NOW)

    assert [("a", "its removal was cut off")] == [(one.what, one.reason) for one in found.runs]


def test_a_run_that_is_being_removed_takes_no_place_among_the_last() -> None:
    runs = [Run("a", finished_at=NOW, removing=True), ended("b", 1)]

    assert ["a"] == gone(plan(runs, (), Policy(keep_last=1), NOW))


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(keep_last=0), "number 1 of experiment mnist, 0 are kept"),
        (Policy(keep_days=2.5), "ended 10.0 days ago, 2.5 are kept"),
        (Policy(0, 7), "number 1 of experiment mnist, 0 are kept; ended 10.0 days ago, 7 are kept"),
    ],
)
def test_the_reason_says_what_the_policy_counted(policy: Policy, reason: str) -> None:
    found = plan([ended("a", 10, experiment="mnist")], (), policy, NOW)

    assert [reason] == [one.reason for one in found.runs]


@pytest.mark.parametrize(
    ("modified", "named", "goes"),
    [(OLD, (), True), (NOW - GRACE, (), False), (NOW + 60, (), False), (OLD, ("s",), False)],
)
def test_which_snapshots_go(modified: float, named: tuple[str, ...], goes: bool) -> None:
    found = plan((), [Snapshot("s", modified, 7)], Policy(), NOW, named=named)

    assert ([("s", 7)] if goes else []) == [(one.what, one.size) for one in found.snapshots]


def test_a_snapshot_goes_with_the_last_run_that_names_it() -> None:
    both = [ended("a", 1, snapshots=frozenset({"s"})), ended("b", 9, snapshots=frozenset({"s", "t"}))]
    stored = [Snapshot("s", OLD, 5), Snapshot("t", OLD, 6)]

    found = plan(both, stored, Policy(keep_last=1), NOW)

    assert (["b"], ["t"], 6) == (gone(found), [one.what for one in found.snapshots], found.size)


def test_a_record_that_cannot_be_read_holds_every_snapshot() -> None:
    found = plan([Run("a", readable=False)], [Snapshot("s", OLD)], Policy(), NOW)

    assert ((), "the record of a cannot be read, so what it names is not known") == (found.snapshots, found.held)


# -- For any store.

DIGESTS = st.sampled_from("stuvw")
MOMENTS = st.floats(NOW - 60 * DAY, NOW + DAY)
ANY_RUN = st.builds(
    Run,
    key=st.sampled_from("abcdefgh"),
    experiment=st.none() | st.sampled_from(["x", "y"]),
    finished_at=st.none() | MOMENTS,
    snapshots=st.frozensets(DIGESTS, max_size=3),
    removing=st.booleans(),
)
RUN_LISTS = st.lists(ANY_RUN, max_size=8, unique_by=lambda run: run.key)
SNAPSHOTS = st.lists(st.builds(Snapshot, DIGESTS, MOMENTS, st.integers(0, 9)), unique_by=lambda one: one.digest)
POLICIES = st.builds(Policy, st.none() | st.integers(0, 5), st.none() | st.floats(0, 60))
SOME_KEYS, SOME_DIGESTS = st.frozensets(st.sampled_from("abcdefgh")), st.frozensets(DIGESTS)


@given(RUN_LISTS, SNAPSHOTS, POLICIES, SOME_KEYS, SOME_DIGESTS)
def test_nothing_live_unfinished_named_or_young_ever_goes(
    runs: list[Run], stored: list[Snapshot], policy: Policy, live: frozenset[str], named: frozenset[str]
) -> None:
    found = plan(runs, stored, policy, NOW, live=live, named=named)

    keys, digests = set(gone(found)), {one.what for one in found.snapshots}
    assert not keys & live
    assert all(run.removing or run.finished_at is not None for run in runs if run.key in keys)
    assert all(one.modified < NOW - GRACE for one in stored if one.digest in digests)
    assert not digests & named.union(*(run.snapshots for run in runs if run.key not in keys))


@given(RUN_LISTS, SNAPSHOTS, POLICIES, SOME_KEYS, SOME_DIGESTS)
def test_a_second_time_nothing_goes(
    runs: list[Run], stored: list[Snapshot], policy: Policy, live: frozenset[str], named: frozenset[str]
) -> None:
    first = plan(runs, stored, policy, NOW, live=live, named=named)
    runs_left = [run for run in runs if run.key not in gone(first)]
    swept = {one.what for one in first.snapshots}
    stored_left = [one for one in stored if one.digest not in swept]

    assert Plan() == plan(runs_left, stored_left, policy, NOW, live=live, named=named)


@given(RUN_LISTS, st.integers(0, 5), st.floats(0, 60))
def test_each_bound_keeps_what_it_keeps_alone(runs: list[Run], last: int, days: float) -> None:
    both = set(gone(plan(runs, (), Policy(last, days), NOW)))

    assert both <= set(gone(plan(runs, (), Policy(keep_last=last), NOW)))
    assert both <= set(gone(plan(runs, (), Policy(keep_days=days), NOW)))
