"""Providers over a real API server, with kwok for the nodes and the CRDs of those whose objects they make."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from lab import Lab, crds
from stoker.controller.pools import PlainObjects
from stoker.kube.client import KubeClient
from tests.support import labs

#: The lab that the tests of the API server share.
NAME = "stoker-api"
#: Seconds that nodes may take on a busy machine.
PATIENCE = 30.0


@pytest.fixture(scope="session")
def lab() -> Lab:
    return labs.running(os.environ.get("STOKER_API_LAB", NAME), nodes=0)


@pytest.fixture
async def objects(lab: Lab) -> AsyncIterator[PlainObjects]:
    async with KubeClient.from_kubeconfig(lab.kubeconfig, user_agent="test/1") as client:
        yield PlainObjects(client)


async def until(what: str, true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that the cluster does by itself; fails the test when it does not."""
    for _ in range(int(PATIENCE * 10)):
        if await true():
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"not within {PATIENCE:.0f} s: {what}")


def installed(lab: Lab, module: str, *files: str) -> Iterator[None]:
    """CRDs of a module, by their paths in it; gone with all their objects afterwards."""
    folder = crds.module(module)
    with crds.installed(lab, [folder / file for file in files]):
        yield
