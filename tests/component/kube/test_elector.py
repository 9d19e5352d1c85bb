"""Candidates for one Lease over real HTTP: what they write, when they lead, how they end. Time is the test's."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from stoker.core.lease import LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS
from stoker.kube.access import Access
from stoker.kube.client import KubeClient
from stoker.kube.elector import Elector, LeaseLost
from stoker.kube.errors import Unavailable
from tests.support.fake_api import FakeApi, Fault

LEASES = "/apis/coordination.k8s.io/v1/namespaces/s/leases"
PATH = f"{LEASES}/stoker-operator"
#: The seconds since the epoch that the candidates believe in.
WALL = 1_700_000_000.0


class Candidate:
    """An elector whose rounds the test counts out. now: its monotonic clock; wall: its other one."""

    def __init__(self, api: FakeApi, name: str, wall: float = WALL) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.client = KubeClient(Access(api.url), user_agent="test/1", tries=1)
        self.elector = Elector(
            self.client, "s", "stoker-operator", name, lambda: self.now, self._sleep, lambda: wall + self.now
        )
        self._go, self._rests = asyncio.Semaphore(0), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._rests.set()
        await self._go.acquire()

    async def round(self) -> None:
        """One look and what follows from it; raises what the elector ends with."""
        self._rests.clear()
        if self._task is None:
            self._task = asyncio.create_task(self.elector.run())
        else:
            self._go.release()
        rests = asyncio.create_task(self._rests.wait())
        await asyncio.wait((self._task, rests), return_when=asyncio.FIRST_COMPLETED)
        rests.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def leads(self) -> bool:
        return self.elector.open


Make = Callable[..., Candidate]


@pytest.fixture
async def make(api: FakeApi) -> AsyncIterator[Make]:
    made: list[Candidate] = []

    def candidate(name: str, **options: float) -> Candidate:
        made.append(Candidate(api, name, **options))
        return made[-1]

    yield candidate
    for one in made:
        await one.stop()
        await one.client.close()


def holder(api: FakeApi) -> str:
    return str(api.objects[PATH]["spec"]["holderIdentity"])


def writes(api: FakeApi) -> int:
    return sum(method != "GET" for method, _, _ in api.requests)


async def test_the_first_takes_the_lease_and_the_second_waits(api: FakeApi, make: Make) -> None:
    one, other = make("one"), make("other")
    await one.round()
    await other.round()

    assert (True, False) == (one.leads, other.leads)
    spec = api.objects[PATH]["spec"]
    assert ("one", 15, "2023-11-14T22:13:20.000000Z") == (
        spec["holderIdentity"], spec["leaseDurationSeconds"], spec["renewTime"],
    )  # fmt: skip
    await asyncio.wait_for(one.elector.wait(), 1)
    waiting = asyncio.create_task(other.elector.wait())
    await other.round()
    assert not waiting.done()
    waiting.cancel()


async def test_a_renewal_rests_on_the_version_that_was_seen_and_gives_time(api: FakeApi, make: Make) -> None:
    one = make("one")
    await one.round()
    version = api.objects[PATH]["metadata"]["resourceVersion"]
    one.now = 6.0
    await one.round()

    assert version == api.bodies[-1]["metadata"]["resourceVersion"]
    one.now = 6.0 + RENEW_SECONDS - 0.1
    assert one.leads
    one.now += 0.2
    assert not one.leads


async def test_candidates_do_not_keep_step_and_look_every_two_seconds(api: FakeApi, make: Make) -> None:
    one = make("one")
    for _ in range(5):
        await one.round()

    assert all(0.8 * RETRY_SECONDS <= pause <= 1.2 * RETRY_SECONDS for pause in one.pauses)
    assert len(set(one.pauses)) > 1


@pytest.mark.parametrize("fault", [Fault(500), Fault(503), Fault(429), Fault(409, "Conflict"), Fault(0, cut=True)])
async def test_a_renewal_that_fails_once_loses_nothing(api: FakeApi, make: Make, fault: Fault) -> None:
    one = make("one")
    await one.round()
    for _ in range(4):
        one.now += 4.0
        api.fail("PATCH", fault)
        await one.round()
        one.now += 2.0
        await one.round()
        assert one.leads


async def test_a_leader_that_cannot_renew_ends_at_its_deadline(
    api: FakeApi, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = make("one")
    await one.round()
    api.fail("PATCH", *[Fault(500, message="etcd is away")] * 20)

    async def until_it_ends() -> None:
        while True:
            one.now += one.pauses[-1]
            await one.round()

    with caplog.at_level(logging.WARNING), pytest.raises(LeaseLost, match="was not renewed in time"):
        await until_it_ends()

    assert one.now == pytest.approx(RENEW_SECONDS)
    assert 1 == sum("etcd is away" in line for line in caplog.messages)


async def test_a_process_that_stood_still_past_its_time_ends_without_a_request(api: FakeApi, make: Make) -> None:
    one = make("one")
    await one.round()
    sent = len(api.requests)
    one.now += 60.0

    assert not one.leads
    with pytest.raises(LeaseLost, match="Lease s/stoker-operator was not renewed in time"):
        await one.round()
    assert sent == len(api.requests)


async def test_a_leader_whose_lease_another_took_ends_and_says_who(api: FakeApi, make: Make) -> None:
    one = make("one")
    await one.round()
    await api.put(PATH, spec={"holderIdentity": "other"})
    one.now += 2.0
    with pytest.raises(LeaseLost, match="taken by other"):
        await one.round()

    assert not one.leads
    assert "other" == holder(api)


async def test_a_leader_whose_lease_is_deleted_ends_and_makes_no_new_one(api: FakeApi, make: Make) -> None:
    one = make("one")
    await one.round()
    await api.remove(PATH)
    one.now += 2.0
    with pytest.raises(LeaseLost, match="is gone"):
        await one.round()

    assert PATH not in api.objects


async def test_a_change_by_someone_who_leaves_the_holder_is_no_loss(api: FakeApi, make: Make) -> None:
    one = make("one")
    await one.round()
    await api.put(PATH, metadata={"annotations": {"seen": "by a person"}})
    one.now += 8.0
    await one.round()
    one.now += 8.0

    assert one.leads


async def test_a_silent_leader_is_replaced_after_the_leases_time_as_seen_here(api: FakeApi, make: Make) -> None:
    one, other = make("one"), make("other")
    await one.round()
    await other.round()
    other.now = LEASE_SECONDS - 0.1
    await other.round()
    assert not other.leads
    other.now = LEASE_SECONDS
    await other.round()

    assert other.leads
    assert ("other", 1) == (holder(api), api.objects[PATH]["spec"]["leaseTransitions"])


@pytest.mark.parametrize("off", [-1200.0, 1200.0])
async def test_a_clock_that_is_off_by_twenty_minutes_changes_nothing(api: FakeApi, make: Make, off: float) -> None:
    one, other = make("one"), make("other", wall=WALL + off)
    for _ in range(20):
        await one.round()
        await other.round()
        one.now += RETRY_SECONDS
        other.now += RETRY_SECONDS
        assert (True, False) == (one.leads, other.leads)


async def test_of_two_who_take_a_lease_one_is_refused(api: FakeApi, make: Make) -> None:
    await api.put(PATH, spec={"holderIdentity": "gone", "leaseDurationSeconds": 15})
    candidates = [make("one"), make("other")]
    for one in candidates:
        await one.round()
        one.now += LEASE_SECONDS
    await asyncio.gather(*(one.round() for one in candidates))

    assert [True, False] == sorted((one.leads for one in candidates), reverse=True)
    assert next(one for one in candidates if one.leads) is candidates[holder(api) != "one"]


async def test_a_released_lease_is_taken_at_once(api: FakeApi, make: Make) -> None:
    one, other = make("one"), make("other")
    await one.round()
    await other.round()
    await one.stop()
    await one.elector.release()
    assert (False, "") == (one.leads, holder(api))
    await other.round()

    assert other.leads


async def test_a_release_whose_first_try_meets_a_late_renewal_is_tried_again(api: FakeApi, make: Make) -> None:
    one = make("one")
    await one.round()
    await one.stop()
    api.fail("PATCH", Fault(409, "Conflict"))
    await one.elector.release()

    assert "" == holder(api)


async def test_who_does_not_lead_releases_nothing(api: FakeApi, make: Make) -> None:
    one, other = make("one"), make("other")
    await one.round()
    await other.round()
    sent = len(api.requests)
    await other.elector.release()

    assert sent == len(api.requests)
    assert "one" == holder(api)


async def test_a_release_that_fails_says_what_comes_of_it(
    api: FakeApi, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = make("one")
    await one.round()
    await one.stop()
    api.fail("GET", Fault(500))
    with caplog.at_level(logging.WARNING):
        await one.elector.release()

    assert not one.leads
    assert any("another replica takes over in 15 s" in line for line in caplog.messages)


async def test_a_candidate_that_may_not_read_the_lease_says_so_and_goes_on(
    api: FakeApi, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = make("one")
    api.fail("GET", *[Fault(403, "Forbidden", "leases is forbidden")] * 2)
    with caplog.at_level(logging.WARNING):
        await one.round()
        await one.round()
        await one.round()

    assert one.leads
    assert ["cannot take Lease s/stoker-operator: leases is forbidden"] == caplog.messages


async def test_a_gate_that_closes_between_two_tries_stops_the_second(api: FakeApi) -> None:
    class Closed(Exception):
        pass

    calls = 0

    def once() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Closed

    client = KubeClient(Access(api.url), user_agent="test/1", before_write=once)
    api.fail("POST", Fault(500))
    with pytest.raises(Closed):
        await client.create("/api/v1/namespaces/n/services", {"metadata": {"name": "a"}})
    await client.close()

    assert 1 == writes(api)


async def test_reading_asks_no_gate(api: FakeApi) -> None:
    def closed() -> None:
        raise Unavailable("closed")

    await api.put("/api/v1/namespaces/n/pods/a")
    client = KubeClient(Access(api.url), user_agent="test/1", before_write=closed)
    assert "a" == (await client.get("/api/v1/namespaces/n/pods/a"))["metadata"]["name"]
    await client.close()
