"""A plan is done once, in its order, whatever the API server answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from stoker.api.names import API_VERSION
from stoker.api.trainingjob import TrainingJob, TrainingJobStatus
from stoker.controller.answers import Answers
from stoker.controller.executor import Executor
from stoker.controller.gate import AlwaysOpen, NotLeading
from stoker.controller.ledger import Ledger
from stoker.controller.pools import Pools
from stoker.controller.progress import PROGRESS_BURST
from stoker.core.plan import AddOwner, Answer, Ask, Create, Delete, Found, ImageDigest, Plan, Posted, Question, Refused
from stoker.kube.errors import Conflict, KubeError
from stoker.kube.events import Recorder
from stoker.kube.resources import TRAINING_JOBS
from stoker.kube.store import Key, Store
from tests.support.fake_api import FakeApi, Fault

KEY = Key("TrainingJob", "n", "iris")
JOBS = "/apis/batch/v1/namespaces/n/jobs"
PATH = TRAINING_JOBS.path("n", "iris")
SPEC = {"command": {"command": "true", "environment": {"name": "e"}}}


class Closed(AlwaysOpen):
    @property
    def open(self) -> bool:
        return False


class Bench:
    """An executor over a fake API server, with one TrainingJob in it and in the store."""

    def __init__(self, api: FakeApi, gate: Any = None) -> None:
        self.api, self.now, self.asked = api, 1000.0, list[Question]()
        self.store = Store()
        self.client = api.client()
        self.gate = gate or AlwaysOpen()
        self.woken: list[Key] = []
        self.answers = Answers(self.answer, self.woken.append, AlwaysOpen(), lambda: self.now)
        pools = Pools(self.store, Ledger(self.store, self.woken.append), self.client, lambda: self.now)
        recorder = Recorder(self.client, "test", lambda: self.now)
        self.executor = Executor(
            self.client, self.store, self.answers, pools, recorder, self.gate, self.woken.append, lambda: self.now
        )  # fmt: skip

    async def answer(self, question: Question) -> Answer:
        self.asked.append(question)
        return Found("x@sha256:1")

    async def begin(self) -> TrainingJob:
        await self.api.put(PATH, apiVersion=API_VERSION, kind="TrainingJob", spec=SPEC)
        job = await self.client.get(PATH, TrainingJob)
        self.store.put("TrainingJob", job)
        return job

    async def do(self, *actions: Any, status: TrainingJobStatus | None = None) -> Any:
        return await self.executor.do(KEY, self.store.get(*KEY), Plan(actions, status))

    def child(self, name: str = "iris-1") -> Create:
        uid = self.store.get(*KEY).metadata.uid
        owner = {"apiVersion": API_VERSION, "kind": "TrainingJob", "name": "iris", "uid": uid, "controller": True}
        metadata = {"name": name, "namespace": "n", "ownerReferences": [owner]}
        return Create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})


@pytest.fixture
async def bench(api: FakeApi) -> AsyncIterator[Bench]:
    found = Bench(api)
    await found.begin()
    api.requests.clear()
    yield found
    await found.answers.close()
    await found.client.close()


async def test_what_was_made_is_known_at_once(bench: Bench) -> None:
    await bench.do(bench.child())

    assert bench.store.get("Job", "n", "iris-1") is not None
    assert bench.api.seen("POST") == [JOBS]


async def test_a_create_whose_answer_was_lost_finds_its_own_object(bench: Bench) -> None:
    bench.api.fail("POST", Fault(0, cut=True))
    create = bench.child()
    await bench.api.put(f"{JOBS}/iris-1", **create.manifest)  # it was made all the same
    outcome = await bench.do(create)

    assert not outcome.planned_anew
    assert bench.store.get("Job", "n", "iris-1") is not None
    assert [path for path in bench.api.objects if path.startswith(JOBS)] == [f"{JOBS}/iris-1"]


async def test_a_name_that_somebody_else_has_is_left_alone_and_told(bench: Bench) -> None:
    await bench.api.put(f"{JOBS}/iris-1", spec={"theirs": True})
    outcome = await bench.do(bench.child())

    told = bench.answers.look_up(Posted("Job", "n", "iris-1"), KEY)
    assert outcome.planned_anew
    assert isinstance(told, Refused)
    assert told.reason == "NameTaken"
    assert bench.api.objects[f"{JOBS}/iris-1"]["spec"] == {"theirs": True}


async def test_a_refused_create_is_told_in_the_servers_words_and_spaced_out(bench: Bench) -> None:
    bench.api.fail("POST", Fault(403, "Forbidden", "exceeded quota: none"))
    assert (await bench.do(bench.child())).planned_anew

    second = await bench.do(bench.child(), status=TrainingJobStatus(phase="Starting"))
    told = bench.answers.look_up(Posted("Job", "n", "iris-1"), KEY)
    assert isinstance(told, Refused)
    assert (told.reason, told.message) == ("PodsRejected", "exceeded quota: none")
    assert len(bench.api.seen("POST")) == 1  # not again at once
    assert second.status_written  # but the status is told meanwhile
    assert second.look_again_at == told.retry_at

    bench.now += 60
    await bench.do(bench.child())
    assert bench.store.get("Job", "n", "iris-1") is not None
    assert bench.answers.look_up(Posted("Job", "n", "iris-1"), KEY) is None


async def test_a_trial_makes_nothing_and_a_yes_makes_the_refusal_forgotten(bench: Bench) -> None:
    posted = Posted("Job", "n", "iris-1")
    bench.api.fail("POST", Fault(422, "Invalid", 'volumeMounts[1].name: Not found: "nope"'))
    await bench.do(bench.child())
    trial = replace(bench.child(), trial=True)
    assert (await bench.do(trial)).look_again_at == bench.now + 5.0  # not at once

    bench.now += 5
    bench.api.fail("POST", Fault(422, "Invalid", "still"))
    assert (await bench.do(trial)).planned_anew
    again = bench.answers.look_up(posted, KEY)
    assert isinstance(again, Refused)
    assert (again.message, again.retry_at) == ("still", bench.now + 10.0)

    bench.now += 10
    assert (await bench.do(trial)).planned_anew
    assert bench.answers.look_up(posted, KEY) is None
    assert f"{JOBS}/iris-1" not in bench.api.objects
    assert bench.store.get("Job", "n", "iris-1") is None

    # The dry run was too kind: the next try is as far away as it would have been.
    bench.api.fail("POST", Fault(403, "Forbidden", "exceeded quota: none"))
    await bench.do(bench.child())
    after = bench.answers.look_up(posted, KEY)
    assert isinstance(after, Refused)
    assert after.retry_at == bench.now + 20.0


async def test_a_failure_stops_the_plan(bench: Bench) -> None:
    bench.api.fail("POST", *[Fault(500)] * 5)
    with pytest.raises(KubeError):
        await bench.do(bench.child(), status=TrainingJobStatus(phase="Running"))

    assert bench.api.seen("PATCH") == []


async def test_a_status_that_is_there_already_is_not_sent(bench: Bench) -> None:
    status = TrainingJobStatus(phase="Running", key="iris-1")
    assert (await bench.do(status=status)).status_written
    assert not (await bench.do(status=status)).status_written

    assert bench.api.seen("PATCH") == [f"{PATH}/status"]


async def test_a_status_that_the_server_keeps_otherwise_is_sent_once(bench: Bench) -> None:
    """CRDs of an older version drop a member: sending it for ever would not help."""
    status = TrainingJobStatus(phase="Running", key="iris-1")
    real = bench.client.apply_status

    async def forgetful(path: str, body: Any, shape: Any) -> Any:
        del body["status"]["key"]
        return await real(path, body, shape)

    bench.client.apply_status = forgetful  # type: ignore[method-assign,assignment]
    for _ in range(3):
        await bench.do(status=status)

    assert len(bench.api.seen("PATCH")) == 1


async def test_a_status_never_brings_a_gone_job_back(bench: Bench) -> None:
    await bench.api.remove(PATH)
    outcome = await bench.do(status=TrainingJobStatus(phase="Running"))

    assert not outcome.status_written
    assert PATH not in bench.api.objects


async def test_a_status_is_not_written_to_another_job_of_that_name(bench: Bench) -> None:
    await bench.api.remove(PATH)
    await bench.api.put(PATH, spec=SPEC)

    with pytest.raises(Conflict):
        await bench.do(status=TrainingJobStatus(phase="Running"))


async def test_telling_of_progress_has_a_limit_and_results_have_none(bench: Bench) -> None:
    for number in range(int(PROGRESS_BURST)):
        await bench.do(status=TrainingJobStatus(phase="Queued", message=str(number)))
    held_back = await bench.do(status=TrainingJobStatus(phase="Queued", message="one more"))
    assert not held_back.status_written

    assert (await bench.do(status=TrainingJobStatus(phase="Completed"))).status_written


async def test_deleting_what_has_gone_or_is_another_is_as_good(bench: Bench) -> None:
    await bench.do(Delete("Job", "n", "iris-1", "some-uid"))
    await bench.api.put(f"{JOBS}/iris-1")
    await bench.do(Delete("Job", "n", "iris-1", "some-uid"))

    assert f"{JOBS}/iris-1" in bench.api.objects


async def test_who_does_not_lead_writes_nothing(api: FakeApi) -> None:
    bench = Bench(api, Closed())
    await bench.begin()
    api.requests.clear()
    for actions, status in (((bench.child(),), None), ((), TrainingJobStatus(phase="Running"))):
        with pytest.raises(NotLeading):
            await bench.do(*actions, status=status)
    await bench.client.close()

    assert api.requests == []


async def test_a_question_is_asked_once_and_wakes_all_who_asked(bench: Bench) -> None:
    question = ImageDigest("n", "a", "linux/amd64")
    other = Key("TrainingJob", "n", "other")
    await bench.do(Ask(question), Ask(question))
    bench.answers.ask(question, other)
    async with asyncio.timeout(5):
        while len(bench.woken) < 2:  # noqa: ASYNC110 (the flight has no event of its own)
            await asyncio.sleep(0)

    assert bench.asked == [question]
    assert {KEY, other} == set(bench.woken)
    assert bench.answers.known_to(KEY)[question] == Found("x@sha256:1")


async def test_an_old_answer_stays_for_those_who_used_it_only(bench: Bench) -> None:
    question = ImageDigest("n", "a:moving", "linux/amd64")
    bench.answers.note(question, Found("old"))
    assert bench.answers.known_to(KEY).get(question) == Found("old")
    bench.now += 3600

    assert bench.answers.known_to(KEY).get(question) == Found("old")
    assert bench.answers.known_to(Key("TrainingJob", "n", "new")).get(question) is None


CLAIM = "/api/v1/namespaces/n/persistentvolumeclaims/scratch"


def adoption(bench: Bench, uid: str) -> AddOwner:
    owner = bench.store.get(*KEY).metadata.uid
    kind = "PersistentVolumeClaim"
    return AddOwner(kind, "n", "scratch", uid, owner_kind="TrainingJob", owner_name="iris", owner_uid=owner)


async def test_a_second_owner_is_added_once_and_known_at_once(bench: Bench) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    made = await bench.api.put(CLAIM, metadata={"ownerReferences": [pod]})
    action = adoption(bench, made["metadata"]["uid"])

    await bench.do(action)
    await bench.do(action)

    job = {"apiVersion": API_VERSION, "kind": "TrainingJob", "name": "iris", "uid": action.owner_uid}
    assert bench.api.objects[CLAIM]["metadata"]["ownerReferences"] == [pod, job]
    known = bench.store.get("PersistentVolumeClaim", "n", "scratch")
    assert [owner.uid for owner in known.metadata.owner_references] == ["u", action.owner_uid]


@pytest.mark.parametrize("there", [True, False], ids=["another claim has the name", "gone"])
async def test_a_claim_that_is_not_there_gets_no_owner(bench: Bench, there: bool) -> None:
    if there:
        await bench.api.put(CLAIM)

    outcome = await bench.do(adoption(bench, "the-former"))

    assert not outcome.planned_anew
    assert "ownerReferences" not in bench.api.objects.get(CLAIM, {"metadata": {}})["metadata"]
    assert bench.store.get("PersistentVolumeClaim", "n", "scratch") is None


async def test_a_replica_that_does_not_lead_adds_no_owner(api: FakeApi) -> None:
    bench = Bench(api, Closed())
    await bench.begin()
    made = await api.put(CLAIM)

    with pytest.raises(NotLeading):
        await bench.do(adoption(bench, made["metadata"]["uid"]))

    assert "ownerReferences" not in api.objects[CLAIM]["metadata"]
    await bench.client.close()
