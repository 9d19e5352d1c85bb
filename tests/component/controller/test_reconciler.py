"""The loop gives everybody a turn, whatever plans say."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.api.kube import BatchJob
from stoker.controller import reconciler as reconciler_module
from stoker.controller.executor import Outcome
from stoker.controller.gate import AlwaysOpen
from stoker.controller.metrics import Metrics
from stoker.controller.reconciler import Reconciler
from stoker.core.plan import Plan
from stoker.kube.errors import Unavailable
from stoker.kube.store import Key, Store
from stoker.kube.workqueue import WorkQueue
from tests.support import build

KEY = Key("Environment", "n", "torch")


class Idle:
    """An executor that has nothing to do."""

    async def do(self, *_: Any) -> Outcome:
        return Outcome()


def reconciler(queue: WorkQueue) -> Reconciler:
    nobody = cast(Any, None)
    views = cast(Any, SimpleNamespace(environment=lambda key: SimpleNamespace(environment=None)))
    return Reconciler(
        Store(), queue, views, nobody, nobody, nobody, cast(Any, Idle()), nobody,
        cast(Any, SimpleNamespace(planned=lambda *_: None)), AlwaysOpen(), Metrics(),
    )  # fmt: skip


async def worked_for(seconds: float, plan: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a key was planned by four workers in that time; fails if they let nobody else in."""
    planned = 0

    def counted(*_: Any) -> Any:
        nonlocal planned
        planned += 1
        return plan()

    monkeypatch.setattr(reconciler_module.environment_core, "plan", counted)
    queue = WorkQueue()
    workers = [asyncio.create_task(reconciler(queue).work()) for _ in range(4)]
    queue.add(KEY)
    async with asyncio.timeout(10):
        await asyncio.sleep(seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return planned


async def test_a_plan_for_the_past_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await worked_for(0.3, lambda: Plan(wake_at=1.0), monkeypatch) == 1


async def test_a_plan_that_fails_waits_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Any:
        raise Unavailable("the API server is away")

    assert 1 <= await worked_for(0.3, failing, monkeypatch) <= 3


async def test_a_defect_in_a_plan_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    assert 1 <= await worked_for(0.3, broken, monkeypatch) <= 3


@pytest.mark.parametrize(
    ("children", "expected"),
    [
        ((), True),
        ((build.child(),), False),
        ((build.child(ended="Failed"),), True),
        # Where its node is dead, the deletion may take for ever; the next attempt does not wait for it.
        ((build.child(deleting=True),), True),
        ((build.child(deleting=True), build.child(attempt=2)), False),
    ],
)
def test_a_job_may_want_nodes_while_no_attempt_is_open(children: tuple[BatchJob, ...], expected: bool) -> None:
    assert reconciler_module.may_want(build.view(children=children)) == expected
