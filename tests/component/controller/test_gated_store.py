"""Only a replica that leads writes into the object store; everybody reads."""

from pathlib import Path

import pytest

from stoker.controller.answers import Answers
from stoker.controller.gate import AlwaysOpen, NotLeading
from stoker.controller.gated_store import GatedStore
from stoker.core.plan import Answer, Question, SnapshotPresent
from stoker.kube.store import Key
from stoker.storage.objects import open_store


class Switch(AlwaysOpen):
    def __init__(self) -> None:
        self.leads = True

    @property
    def open(self) -> bool:
        return self.leads


async def test_a_closed_gate_lets_nothing_be_stored_or_removed(tmp_path: Path) -> None:
    gate = Switch()
    store = GatedStore(open_store(tmp_path.as_uri()), gate)
    assert await store.put("a", b"1")
    gate.leads = False

    with pytest.raises(NotLeading):
        await store.put("a", b"2")
    with pytest.raises(NotLeading):
        await store.put("b", b"2", only_if_absent=True)
    with pytest.raises(NotLeading):
        await store.delete(["a"])
    assert b"1" == await store.get("a")
    assert ["a"] == [found.key async for found in store.list()]


async def test_a_question_that_was_cut_off_by_the_gate_is_left_unanswered() -> None:
    woken: list[Key] = []

    async def refuses(question: Question) -> Answer:
        raise NotLeading

    key, question = Key("TrainingJob", "n", "iris"), SnapshotPresent("n", "sha256:1")
    answers = Answers(refuses, woken.append, AlwaysOpen())
    answers.ask(question, key)
    (flight,) = answers._flights.values()
    await flight

    assert (None, []) == (answers.look_up(question, key), woken)
    await answers.close()
