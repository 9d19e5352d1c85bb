"""GET /metrics of the operator's process tells what came of a pool's passes, while it leads and the pool exists."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from stoker.api.computecluster import ComputeCluster
from stoker.api.names import API_VERSION
from stoker.controller.app import Operator
from stoker.controller.config import Config
from stoker.core.cluster.view import Demand
from stoker.core.lease import Lease, Standing
from stoker.kube.resources import COMPUTE_CLUSTERS
from stoker.kube.store import Key
from tests.support.fake_api import FakeApi, kubeconfig
from tests.support.probing import probed

KEY = Key("ComputeCluster", "", "cpu")
PATH = COMPUTE_CLUSTERS.path(name="cpu")
REFUSED = 'stoker_pool_launch_failures_total{fault="Config",instance_type="std",pool="cpu",tier="Dedicated"}'


class Page:
    """An operator that works over a fake API server, and its page of metrics."""

    def __init__(self, api: FakeApi, operator: Operator, url: str) -> None:
        self.api, self.operator, self.url = api, operator, url
        self.working = asyncio.create_task(operator.reconciler.work())

    async def stop(self) -> None:
        self.working.cancel()
        await asyncio.gather(self.working, return_exceptions=True)

    def lead(self, seconds: float) -> None:
        """Lead for so long from now; 0: not any more."""
        now = time.monotonic()
        self.operator.gate._standing = Standing("me", Lease("me", "1"), now, now + seconds)
        self.operator.gate._elected.set()

    async def text(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as told:
            assert told.content_type == "text/plain"
            return await told.text()

    async def until(self, series: str, value: float) -> None:
        async with asyncio.timeout(20):
            while f"{series} {value}\n" not in await self.text():  # noqa: ASYNC110 (a page tells nobody that it has changed)
                await asyncio.sleep(0.05)


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    api = FakeApi()
    await api.start()
    operator = Operator(
        Config(
            agent_image="agent",
            server_url="http://server",
            storage_url="s3://runs",
            kubeconfig=kubeconfig(tmp_path, api.url),
        )
    )
    async with probed(operator.probes) as url:
        found = Page(api, operator, url)
        found.lead(1000)
        yield found
        await found.stop()
    await operator.answers.close()
    for client in (operator.client, operator._lease_client, operator._review_client):
        await client.close()
    await operator.registry.close()
    await api.stop()


async def test_a_pools_story_is_on_the_page_while_it_exists_and_this_replica_leads(page: Page) -> None:
    spec = {
        "provider": {"type": "Kwok", "kwok": {"launchFaults": [{"instanceType": "std", "fault": "Config"}]}},
        "maxInstances": 5, "allowedNamespaces": {}, "instanceTypes": [{"name": "std", "resources": {"cpu": "8"}}],
    }  # fmt: skip
    await page.api.put(PATH, apiVersion=API_VERSION, kind="ComputeCluster", spec=spec)
    cluster = await page.operator.client.get(PATH, ComputeCluster)
    page.operator.store.put("ComputeCluster", cluster)
    page.operator.ledger.want("job", "cpu", Demand("job", "team", "gang", 1, 2, time.time()))

    await page.until(REFUSED, 1.0)
    await page.until('stoker_pool_pending_gangs{pool="cpu",reason="InstanceTypeRefused"}', 1.0)
    await page.until('stoker_pool_pending_nodes{pool="cpu"}', 2.0)
    await page.until('stoker_pool_ready{pool="cpu"}', 1.0)
    assert 'stoker_pool_decision_seconds_count{pool="cpu"}' in await page.text()
    # A worker that finds that it leads no more waits for the end of its process: it is not to look just then.
    await page.stop()
    page.lead(0)
    assert 'pool="cpu"' not in await page.text()
    page.lead(1000)
    page.working = asyncio.create_task(page.operator.reconciler.work())
    assert 'stoker_pool_max_nodes{pool="cpu"} 5.0' in await page.text()

    page.operator.store.remove("ComputeCluster", page.operator.store.get(*KEY))
    page.operator.queue.add(KEY)

    await page.until("stoker_queue_depth", 0.0)
    assert 'pool="cpu"' not in await page.text()
