"""One namespace's two thousand questions and waits keep no other's waiting."""

import asyncio
from collections import Counter

import pytest

from stoker.controller import progress as progress_module
from stoker.controller.answers import FLIGHTS, NAMESPACE_FLIGHTS, Answers
from stoker.controller.gate import AlwaysOpen
from stoker.controller.progress import PROGRESS_BURST, Progress
from stoker.core.plan import Answer, Found, Question, SnapshotPresent
from stoker.kube.store import Key


class Stores:
    """Answers when told to; knows what was asked and not answered yet."""

    def __init__(self) -> None:
        self.open: dict[Question, asyncio.Event] = {}
        self.asked: list[Question] = []

    async def __call__(self, question: Question) -> Answer:
        event = self.open[question] = asyncio.Event()
        self.asked.append(question)
        await event.wait()
        del self.open[question]
        return Found(None)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def ask(answers: Answers, namespace: str, number: int) -> SnapshotPresent:
    question = SnapshotPresent(namespace, f"sha256:{number}")
    answers.ask(question, Key("TrainingJob", namespace, f"job-{number}"))
    return question


async def test_a_store_that_answers_nothing_holds_up_its_own_namespace_only() -> None:
    stores = Stores()
    answers = Answers(stores, lambda _: None, AlwaysOpen())
    for number in range(2000):
        ask(answers, "big", number)
    one = ask(answers, "small", 0)
    await settled()

    assert one in stores.open
    assert Counter(question.namespace for question in stores.open) == {"big": NAMESPACE_FLIGHTS, "small": 1}
    await answers.close()


async def test_when_there_is_no_room_a_namespace_waits_for_as_many_answers_as_there_are_namespaces() -> None:
    stores, many = Stores(), FLIGHTS // NAMESPACE_FLIGHTS
    answers = Answers(stores, lambda _: None, AlwaysOpen())
    for namespace in range(many):
        for number in range(500):
            ask(answers, f"big-{namespace}", number)
    one = ask(answers, "small", 0)
    await settled()
    assert len(stores.open) == FLIGHTS
    assert one not in stores.open

    answered = 0
    while one not in stores.open:
        next(iter(stores.open.values())).set()
        await settled()
        answered += 1

    assert answered <= many + 1
    await answers.close()


async def test_every_question_is_answered_once() -> None:
    stores, woken = Stores(), Counter[Key]()
    answers = Answers(stores, lambda key: woken.update([key]), AlwaysOpen())
    for number in range(100):
        ask(answers, "big", number)
        ask(answers, "big", number)
    while stores.open or not stores.asked:
        await settled()
        for event in list(stores.open.values()):
            event.set()
        await settled()

    assert len(stores.asked) == len(set(stores.asked)) == 100
    assert set(woken.values()) == {1}
    assert len(woken) == 100
    await answers.close()


async def test_what_nobody_wants_to_know_any_more_is_not_asked() -> None:
    stores = Stores()
    answers = Answers(stores, lambda _: None, AlwaysOpen())
    for number in range(NAMESPACE_FLIGHTS + 1):
        ask(answers, "big", number)
    await settled()
    answers.forget(Key("TrainingJob", "big", f"job-{NAMESPACE_FLIGHTS}"))
    for event in list(stores.open.values()):
        event.set()
    await settled()

    assert len(stores.asked) == NAMESPACE_FLIGHTS
    await answers.close()


async def test_the_wait_of_one_job_is_told_before_a_thousand_of_another_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "PROGRESS_PER_SECOND", 1000.0)
    woken: asyncio.Queue[Key] = asyncio.Queue()
    progress = Progress(woken.put_nowait)
    many = [Key("TrainingJob", "big", str(number)) for number in range(1000)]
    at_once = [key for key in many if progress.may(key, 0.0)]
    small = Key("TrainingJob", "small", "one")
    assert not progress.may(small, 0.0)

    async with asyncio.timeout(10):
        first = {await woken.get(), await woken.get()}

    assert len(at_once) == PROGRESS_BURST
    assert small in first
    assert progress.may(small, 0.0), "it was told that it may"
    assert not progress.may(small, 0.0), "once"
