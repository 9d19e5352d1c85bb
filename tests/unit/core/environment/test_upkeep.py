"""A build's log is kept while it runs and for ever after, and its Jobs go when nobody wants them."""

from typing import Any

import pytest

from stoker.core.environment.builds import Build
from stoker.core.environment.request import BuildResult
from stoker.core.environment.upkeep import UpkeepView, plan
from stoker.core.plan import Ask, BuildLog, Delete, Found, LockCopy, Question
from tests.support import build
from tests.support import build_envs as env

MADE = BuildResult(image=env.BUILT)
KEY = "a" * 64


def upkeep(known: Build, *, unwanted: float | None = None, answers: Any = None, at: float = 20.0) -> Any:
    since = None if unwanted is None else build.T0 + unwanted
    return plan(UpkeepView(build.NAMESPACE, "x", known, since, env.PLACE, answers or {}), build.T0 + at)


def asked(made: Any) -> list[Question]:
    return [action.question for action in made.actions if isinstance(action, Ask)]


def deleted(made: Any) -> list[str]:
    return [action.name for action in made.actions if isinstance(action, Delete)]


def kept(known: Build, at: float = 20.0) -> dict[Question, Found[Any]]:
    return {question: Found(True) for question in asked(upkeep(known, at=at))}


def test_the_log_is_copied_every_few_seconds_while_it_runs() -> None:
    running = env.tried("x", running=True)
    first, later = upkeep(running, at=20.0), upkeep(running, at=24.0)

    (one,), (other,) = asked(first), asked(later)
    assert isinstance(one, BuildLog)
    assert one != other
    assert first.wake_at is not None
    assert build.T0 + 20 < first.wake_at <= build.T0 + 23


def test_at_the_end_the_whole_log_and_the_lock_are_kept() -> None:
    log, lock = asked(upkeep(env.tried("x", MADE)))

    assert ("end", KEY) == (log.moment, log.key)  # type: ignore[union-attr]
    assert LockCopy(build.NAMESPACE, KEY, env.PLACE, "job-1") == lock


def test_each_try_keeps_a_log_of_its_own_and_the_newest_one_is_the_build_s() -> None:
    """Also of tries that ended while no operator looked."""
    lost = BuildResult(reason="RegistryUnreachable", message="no route", transient=True)
    logs = [
        one for one in asked(upkeep(env.tried("x", lost, lost, running=True), at=40.0)) if isinstance(one, BuildLog)
    ]

    assert [("end", build.stamp(10), False), ("end", build.stamp(20), False)] == [
        (one.moment, one.began, one.newest) for one in logs[:2]
    ]
    assert (3, build.stamp(30), True) == (len(logs), logs[2].began, logs[2].newest)
    assert "end" != logs[2].moment
    (first, second) = (one for one in asked(upkeep(env.tried("x", lost, lost), at=26.0)) if isinstance(one, BuildLog))
    assert (False, True) == (first.newest, second.newest)


def test_a_failed_build_has_a_log_and_no_lock() -> None:
    (log,) = asked(upkeep(env.tried("x", BuildResult(reason="PipUnsatisfiable"))))

    assert isinstance(log, BuildLog)


@pytest.mark.parametrize(("unwanted", "at", "gone"), [(None, 500.0, []), (10.0, 60.0, []), (10.0, 71.0, ["env-x-1"])])
def test_what_nobody_wants_goes_after_a_minute(unwanted: float | None, at: float, gone: list[str]) -> None:
    assert gone == deleted(upkeep(env.tried("x", running=True), unwanted=unwanted, at=at))


def test_an_ended_build_stays_until_its_log_is_kept_but_not_for_ever() -> None:
    ended = env.tried("x", MADE)

    assert [] == deleted(upkeep(ended, unwanted=-60.0, at=20.0))
    assert ["env-x-1"] == deleted(upkeep(ended, unwanted=-60.0, answers=kept(ended), at=20.0))
    assert ["env-x-1"] == deleted(upkeep(ended, unwanted=-60.0, at=80.0))
