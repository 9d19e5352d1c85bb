"""Completed only from a seal that is to be believed: the operator's own reading of the store, with its planner."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.api.trainingjob import TrainingJobStatus
from stoker.controller.asking import Asking
from stoker.core import trainingjob
from stoker.core.plan import Ask, CloseRank, Found, Plan, Refused, Seals
from stoker.storage import layout, records
from stoker.storage.file_store import FileStore
from tests.support import build
from tests.support.build import Answering, child, pod, view

END = build.T0 + 12


class World:
    """A run of two ranks whose pods have ended with 0, and the store as somebody left it."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(folder)
        nobody = cast(Any, None)
        workspaces = SimpleNamespace(open=lambda namespace: self.store)
        self.ask = Asking(cast(Any, workspaces), nobody, nobody, lambda: END)
        self.job = build.job(nodes=2)
        pods = tuple(pod(rank, self.job, on=f"n{rank}", started=3, exit_code=0, ended=12) for rank in (0, 1))
        self.seen = {"children": (child(self.job, nodes=("n0", "n1")),), "pods": pods}

    def put(self, content: bytes, rank: int = 0, attempt: int = 1) -> Path:
        path = self.store.path(layout.seal(build.KEY, attempt, rank))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    async def plan(self) -> tuple[Plan, Any]:
        """What is planned once the question about the seals is answered by the store, and that answer."""
        first = trainingjob.plan(view(self.job, answers=Answering(silent=(Seals,)), **self.seen), END + 1)
        question = next(action.question for action in first.actions if isinstance(action, Ask))
        answer = await self.ask(question)
        answers = Answering({question: answer}, silent=(Seals, CloseRank))
        return trainingjob.plan(view(self.job, answers=answers, **self.seen), END + 1), answer


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.put(records.encode(build.seal(1)), rank=1)
    return world


def phase(plan: Plan) -> str:
    return cast(TrainingJobStatus, plan.status).phase


async def test_the_seals_of_all_ranks_complete_a_run(world: World) -> None:
    world.put(records.encode(build.seal(0)))

    plan, answer = await world.plan()

    assert isinstance(answer, Found)
    assert "Completed" == phase(plan)


GOOD = records.encode(build.seal(0))
FORGED: dict[str, bytes] = {
    "cut off": GOOD[: len(GOOD) // 2],
    "cut off by a byte of meaning": GOOD.rstrip()[:-1],
    "empty": b"",
    "zeros": bytes(len(GOOD)),
    "twice in one file": GOOD + GOOD,
    "only a claim": b'{"complete": true}',
    "of another rank": records.encode(build.seal(1)),
    "of another attempt": records.encode(build.seal(0, attempt=2)),
    "of another job": records.encode({**build.seal(0), "job": "iris-ffffffff"}),
    "complete with a reason": records.encode(build.seal(0, reason="NodeLost")),
    "complete with missing files": records.encode(
        {**build.seal(0), "missing": [{"path": "outputs/x", "size": 1, "reason": "Gone"}]}
    ),
    "incomplete without a reason": records.encode(build.seal(0, complete=False)),
    "complete in words": records.encode({**build.seal(0), "complete": "true"}),
    "of a version to come": records.encode({**build.seal(0), "version": 2}),
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
async def test_a_seal_that_is_not_to_be_believed_ends_no_run(world: World, content: bytes) -> None:
    """The run waits, names the object, and goes on when a person has looked at it."""
    path = world.put(content)

    plan, answer = await world.plan()

    assert isinstance(answer, Refused), answer
    assert layout.seal(build.KEY, 1, 0) in answer.message
    assert "Finalizing" == phase(plan)
    status = cast(TrainingJobStatus, plan.status)
    assert status.waiting is not None
    assert layout.seal(build.KEY, 1, 0) in status.waiting.message
    path.write_bytes(GOOD)
    assert "Completed" == phase((await world.plan())[0])


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
async def test_a_lost_rank_is_not_closed_over_a_seal_that_is_not_to_be_believed(world: World, content: bytes) -> None:
    path = world.put(content)

    answer = await world.ask(CloseRank(build.NAMESPACE, build.KEY, 1, 0, "NodeLost", "n0 is gone"))

    assert isinstance(answer, Refused), answer
    assert content == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda seal: seal, "Completed", id="exit 0"),
        pytest.param(lambda seal: {**seal, "exit": None}, "Failed", id="no exit"),
        pytest.param(lambda seal: {**seal, "exit": {**seal["exit"], "code": 1}}, "Failed", id="exit 1"),
        pytest.param(lambda seal: {**seal, "exit": {**seal["exit"], "code": False}}, "Failed", id="exit false"),
        pytest.param(lambda seal: {**seal, "exit": {**seal["exit"], "code": "0"}}, "Failed", id="exit in words"),
        pytest.param(lambda seal: {**seal, "exit": {**seal["exit"], "reason": "TimedOut"}}, "Failed", id="timed out"),
    ],
)
async def test_a_whole_seal_completes_a_run_only_with_exit_0(
    world: World, change: Callable[[dict[str, Any]], dict[str, Any]], expected: str
) -> None:
    world.put(json.dumps(change(build.seal(0))).encode())

    plan, _ = await world.plan()

    assert expected == phase(plan)


async def test_a_lost_rank_that_was_sealed_meanwhile_stays_as_it_was_sealed(world: World) -> None:
    world.put(GOOD)

    answer = await world.ask(CloseRank(build.NAMESPACE, build.KEY, 1, 0, "NodeLost", "n0 is gone"))

    assert Found(json.loads(GOOD)) == answer
