"""The loop gives everybody a turn, whatever plans say."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.api.kube import BatchJob
from stoker.api.names import ANNOTATION_SCRATCH
from stoker.controller import reconciler as reconciler_module
from stoker.controller.executor import Outcome
from stoker.controller.gate import AlwaysOpen
from stoker.controller.metrics import Metrics
from stoker.controller.reconciler import Reconciler
from stoker.core.cluster.view import ClusterView, Demand
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


@pytest.mark.parametrize("written", [True, False])
async def test_a_job_hears_of_its_node_only_once_the_node_says_that_it_is_used(written: bool) -> None:
    """Otherwise the operator could die between the two, and the next job would find what this one left."""
    done, over = list[str](), asyncio.Event()

    async def do(key: Key, target: Any, plan: Plan[Any]) -> Outcome:
        done.extend(type(action).__name__ for action in plan.actions)
        if plan.actions and not written:
            over.set()
            raise Unavailable("the API server is away")
        return Outcome()

    async def view(name: str) -> ClusterView:
        clean = build.node("n0", annotations={ANNOTATION_SCRATCH: "clean /mnt/fast"})
        pool = build.cluster(provider="Static", storage={"scratchPath": "/mnt/fast"})
        return ClusterView(pool, {"n0": clean}, (Demand("uid-a", "team", "a", 1, 1, 0.0),), scrubs=())

    def planned(name: str, plan: Any) -> None:
        done.append(f"told of {plan.assignments['uid-a', 1]}")
        over.set()

    ledger = SimpleNamespace(planned=planned)
    nobody, queue = cast(Any, None), WorkQueue()
    pools = SimpleNamespace(view=view, due=lambda name: None)
    working = Reconciler(
        Store(), queue, nobody, cast(Any, pools), cast(Any, ledger), nobody, cast(Any, SimpleNamespace(do=do)), nobody,
        nobody, AlwaysOpen(), Metrics(),
    )  # fmt: skip
    worker = asyncio.create_task(working.work())
    queue.add(Key("ComputeCluster", "", "cpu"))
    async with asyncio.timeout(10):
        await over.wait()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)

    assert done[:2] == (["MarkScratch", "told of ('n0',)"] if written else ["MarkScratch"])
