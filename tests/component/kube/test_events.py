"""Events are sent while the API server takes them; when it does not, nothing piles up and nothing ends."""

import asyncio

from stoker.api.kube import ObjectMeta
from stoker.kube.client import TRIES
from stoker.kube.events import MOST_WAITING, Recorder
from tests.support.fake_api import FakeApi, Fault


async def test_an_outage_loses_events_and_piles_up_none(api: FakeApi) -> None:
    now = 0.0

    def later() -> float:
        nonlocal now
        now += 1.0  # the rate of events allows one a second
        return now

    async with api.client() as client:
        recorder = Recorder(client, "test", later)
        for number in range(2 * MOST_WAITING):
            recorder.warn(ObjectMeta(name=f"j{number}", namespace="n", uid=f"u{number}"), "TrainingJob", "v1", "R", "m")
        assert recorder.waiting == MOST_WAITING

        api.fail("PATCH", *[Fault(503)] * TRIES)
        sending = asyncio.create_task(recorder.run())
        async with asyncio.timeout(10):
            while not api.objects:  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.002)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    assert not any("/j0." in path for path in api.objects)
