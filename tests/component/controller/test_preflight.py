"""A cluster that cannot be worked with is refused at the start, with what to do."""

from collections.abc import AsyncIterator

import pytest

from stoker.controller.preflight import Unfit, check_cluster
from tests.support.fake_api import FakeApi

KINDS = ("trainingjobs", "environments", "computeclusters", "workspaces")


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    await fake.start()
    yield fake
    await fake.stop()


def world(api: FakeApi, minor: str = "30", kinds: tuple[str, ...] = KINDS) -> None:
    api.objects["/version"] = {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.0"}
    api.objects["/apis/stoker.dev/v1alpha1"] = {"resources": [{"name": kind} for kind in kinds]}


@pytest.mark.parametrize("minor", ["30", "30+", "36"])
async def test_a_cluster_that_is_new_enough_and_has_our_kinds_will_do(api: FakeApi, minor: str) -> None:
    world(api, minor)
    async with api.client() as client:
        await check_cluster(client)


async def test_an_old_cluster_is_refused(api: FakeApi) -> None:
    world(api, "29+")
    async with api.client() as client:
        with pytest.raises(Unfit, match=r"v1\.29\+\.0 is too old: Stoker needs 1\.30 or later"):
            await check_cluster(client)


async def test_a_missing_kind_names_itself_and_the_chart(api: FakeApi) -> None:
    world(api, kinds=KINDS[:3])
    async with api.client() as client:
        with pytest.raises(Unfit, match=r"workspaces\.stoker\.dev are missing: install the Helm chart charts/stoker"):
            await check_cluster(client)


async def test_a_cluster_that_has_none_of_our_kinds_is_told_so(api: FakeApi) -> None:
    api.objects["/version"] = {"major": "1", "minor": "36"}
    async with api.client() as client:
        with pytest.raises(Unfit, match="trainingjobs"):
            await check_cluster(client)
