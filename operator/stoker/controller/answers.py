"""Keeps the answers to the planners' questions, and gets them in the background: one flight per question.

Whoever asked is planned again when the answer is there. A refusal or a failure is asked again at its `retry_at`,
without anyone having to plan for it, as long as somebody still wants to know.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping

from stoker.controller.gate import Gate, NotLeading
from stoker.core.plan import Answer, EnvironmentRecord, Found, ImageDigest, Question, Refused, Unavailable
from stoker.kube.store import Key
from stoker.kube.turns import Turns

LOG = logging.getLogger(__name__)

#: Answers that are kept; the least recently asked go first. A lost answer is only asked again.
MOST_ANSWERS = 50_000
#: A tag may move; what it meant is good for so long.
IMAGE_SECONDS = 300.0
#: That no registry has an image is known to be true for so long only: someone may build it.
MISS_SECONDS = 2.0
#: Questions that are being answered at a time, in all and of one namespace: its store may be slow to answer each.
FLIGHTS, NAMESPACE_FLIGHTS = 64, 16
#: When no better moment is known.
RETRY_SECONDS = 30.0

#: Gets an answer; knows stores and registries. Must not raise for what they do.
Oracle = Callable[[Question], Awaitable[Answer]]


class _KnownTo(Mapping[Question, Answer]):
    __slots__ = ("_answers", "_key")

    def __init__(self, answers: "Answers", key: Key) -> None:
        self._answers = answers
        self._key = key

    def __getitem__(self, question: Question) -> Answer:
        answer = self._answers.look_up(question, self._key)
        if answer is None:
            raise KeyError(question)
        return answer

    def __iter__(self) -> Iterator[Question]:
        return iter(self._answers.asked_by(self._key))

    def __len__(self) -> int:
        return len(self._answers.asked_by(self._key))


class Answers:
    """The answers known now, for planners; and `ask` for the executor.

    wake: told which key has something new to look at.
    """

    def __init__(
        self,
        oracle: Oracle,
        wake: Callable[[Key], None],
        gate: Gate,
        clock: Callable[[], float] = time.time,
        observe: Callable[[Question, Answer], None] | None = None,
    ) -> None:
        self._oracle = oracle
        self._wake = wake
        self._gate = gate
        self._clock = clock
        self._observe = observe
        self._known: OrderedDict[Question, tuple[Answer, float]] = OrderedDict()  # answer, good until
        self._flights: dict[Question, asyncio.Task[None]] = {}
        self._again: dict[Question, asyncio.TimerHandle] = {}
        self._askers: dict[Question, set[Key]] = {}
        self._asked: dict[Key, set[Question]] = {}
        self._line = Turns[tuple[str, Question]]()
        self._lined_up: set[Question] = set()
        self._flying = Counter[str]()  # by namespace

    # -- for planners

    def known_to(self, key: Key) -> Mapping[Question, Answer]:
        """What the planner of `key` may know, looked up as it asks.

        An answer that has grown old is unknown to whoever comes new, and stays for those that have used it: a tag
        that moves must not change a job that is under way.
        """
        return _KnownTo(self, key)

    def look_up(self, question: Question, key: Key) -> Answer:
        found = self._known.get(question)
        if found is None:
            return None
        answer, until = found
        asked = self._asked.get(key)
        if asked is None or question not in asked:
            if until < self._clock():
                return None
            self._note_asker(question, key)
        return answer

    def __len__(self) -> int:
        return len(self._known)

    # -- for the executor

    def ask(self, question: Question, key: Key) -> None:
        """Find the answer unless it is known or on its way; `key` is woken when it comes."""
        answer = self.look_up(question, key)
        self._note_asker(question, key)
        if question in self._flights or question in self._lined_up:
            return
        if answer is not None:
            self._known.move_to_end(question)
            retry_at = _retry_at(answer)
            if retry_at is None or self._clock() < retry_at:
                return
        self._line_up(question, key.namespace)

    def note(self, question: Question, answer: Answer) -> None:
        """An answer that came by another way; None forgets it."""
        if answer is None:
            self._known.pop(question, None)
        else:
            self._keep(question, answer)

    def forget(self, key: Key) -> None:
        """The key wants to know nothing any more: drop its questions, but for those that others share."""
        for question in self._asked.pop(key, ()):
            askers = self._askers.get(question, set())
            askers.discard(key)
            if not askers:
                self._drop(question)

    async def close(self) -> None:
        """Stop every flight and alarm."""
        self._line.clear()
        for handle in self._again.values():
            handle.cancel()
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def asked_by(self, key: Key) -> frozenset[Question]:
        """The questions of a key, answered or not."""
        return frozenset(self._asked.get(key, ()))

    # -- inside

    def _note_asker(self, question: Question, key: Key) -> None:
        self._askers.setdefault(question, set()).add(key)
        self._asked.setdefault(key, set()).add(question)

    def _line_up(self, question: Question, namespace: str) -> None:
        if (handle := self._again.pop(question, None)) is not None:
            handle.cancel()
        self._lined_up.add(question)
        self._line.add(namespace, (namespace, question))
        self._depart()

    def _depart(self) -> None:
        """Begin as many flights as there is room for, namespaces in turn."""
        while len(self._flights) < FLIGHTS:
            full = {namespace for namespace, flying in self._flying.items() if flying >= NAMESPACE_FLIGHTS}
            found = self._line.take(full)
            if found is None:
                return
            namespace, question = found
            self._lined_up.discard(question)
            if self._askers.get(question):
                self._fly(question, namespace)

    def _fly(self, question: Question, namespace: str) -> None:
        flight = asyncio.create_task(self._find(question))
        self._flights[question] = flight
        self._flying[namespace] += 1
        flight.add_done_callback(lambda _: self._landed(question, namespace))

    def _landed(self, question: Question, namespace: str) -> None:
        self._flights.pop(question, None)
        self._flying[namespace] -= 1
        if not self._flying[namespace]:
            del self._flying[namespace]
        self._depart()

    async def _find(self, question: Question) -> None:
        await self._gate.wait()
        try:
            answer = await self._oracle(question)
        except NotLeading:
            # The process is about to end; the next leader asks for itself.
            return
        except Exception as error:
            # A defect of ours must not leave a job waiting in silence.
            LOG.exception("cannot answer %s", question)
            answer = Unavailable(
                "InternalError",
                f"{type(error).__name__}: {error}",
                "see the operator's log",
                self._clock() + RETRY_SECONDS,
            )
        if self._observe is not None:
            self._observe(question, answer)
        self._keep(question, answer)
        if (retry_at := _retry_at(answer)) is not None:
            delay = max(0.1, retry_at - self._clock())
            self._again[question] = asyncio.get_running_loop().call_later(delay, self._ask_again, question)
        for key in self._askers.get(question, ()):
            self._wake(key)

    def _ask_again(self, question: Question) -> None:
        self._again.pop(question, None)
        asker = next(iter(self._askers.get(question, ())), None)
        if asker is not None and question not in self._flights and question not in self._lined_up:
            self._line_up(question, asker.namespace)

    def _keep(self, question: Question, answer: Answer) -> None:
        self._known[question] = (answer, self._clock() + _lasting(question, answer))
        self._known.move_to_end(question)
        while len(self._known) > MOST_ANSWERS:
            self._known.popitem(last=False)

    def _drop(self, question: Question) -> None:
        self._askers.pop(question, None)
        if (handle := self._again.pop(question, None)) is not None:
            handle.cancel()
        # What an image means, or that a snapshot is there, is worth keeping for the next job.
        answer = self._known.get(question, (None, 0.0))[0]
        if not isinstance(answer, Found) or hasattr(question, "key"):
            self._known.pop(question, None)


def _lasting(question: Question, answer: Answer) -> float:
    """For how long whoever comes new may use an answer, in seconds."""
    if isinstance(question, EnvironmentRecord) and isinstance(answer, Found):
        return IMAGE_SECONDS if answer.value.image is not None else MISS_SECONDS
    return IMAGE_SECONDS if isinstance(question, ImageDigest) and isinstance(answer, Found) else float("inf")


def _retry_at(answer: Answer) -> float | None:
    return answer.retry_at if isinstance(answer, (Refused, Unavailable)) else None
