"""The operator as a process, kopf in it, before an API server that misbehaves: it goes on, or ends and resumes."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stoker.api.names import API_VERSION
from stoker.controller import kopf_front
from stoker.controller.sweep import OWN_KINDS
from tests.support.fake_api import FakeApi, Fault

COLLECTION = f"/apis/{API_VERSION}/namespaces/n/trainingjobs"
SPEC = {"command": {"command": "true", "environment": {"name": "e"}}}
pytestmark = pytest.mark.timeout(90)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    describe(fake)
    await fake.start()
    yield fake
    await fake.stop()


def describe(api: FakeApi) -> None:
    """What a server tells of itself: kopf and the operator's own check ask for it."""
    extensions = "apiextensions.k8s.io/v1"
    api.objects |= {
        "/version": {"major": "1", "minor": "36"},
        "/api": {"versions": ["v1"]},
        "/api/v1": {"resources": [described("namespaces", "Namespace", namespaced=False)]},
        "/apis": {"groups": [group(API_VERSION), group(extensions)]},
        f"/apis/{extensions}": {
            "resources": [described("customresourcedefinitions", "CustomResourceDefinition", namespaced=False)]
        },
        f"/apis/{API_VERSION}": {
            "resources": [described(kind.plural, kind.kind, namespaced=kind.namespaced) for kind in OWN_KINDS]
        },
    }


def group(api_version: str) -> dict[str, Any]:
    name, _, version = api_version.partition("/")
    known = {"groupVersion": api_version, "version": version}
    return {"name": name, "versions": [known], "preferredVersion": known}


def described(plural: str, kind: str, *, namespaced: bool) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    return {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": namespaced, "verbs": verbs}


class Process:
    """`python -m stoker.controller` before a fake API server."""

    def __init__(self, api: FakeApi, folder: Path) -> None:
        self._api, self._folder = api, folder
        self._process: asyncio.subprocess.Process | None = None
        self._kubeconfig = folder / "kubeconfig"

    async def start(self) -> None:
        await self.spawn()
        await self.until("it is ready", lambda: self.page("readyz"), lambda page: page == "ok")
        await self.until("kopf watches", self.watchers, lambda count: count == 1)

    async def spawn(self) -> None:
        context = {"name": "c", "context": {"cluster": "k", "user": "u"}}
        cluster = {"name": "k", "cluster": {"server": self._api.url}}
        content: dict[str, Any] = {"current-context": "c", "clusters": [cluster], "contexts": [context]}
        self._kubeconfig.write_text(json.dumps(content | {"users": [{"name": "u", "user": {}}]}))
        self._port = free_port()
        env = {
            "STOKER_AGENT_IMAGE": "agent", "STOKER_SERVER_URL": "http://server",
            "STOKER_PROBE_ADDRESS": f"127.0.0.1:{self._port}",
        }  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stoker.controller", "--kubeconfig", str(self._kubeconfig), env=env, stderr=log
            )

    async def watchers(self) -> int:
        return self._api.watchers("/trainingjobs")

    async def page(self, path: str) -> str:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self._port}/{path}") as answer,
            ):
                return await answer.text()
        except aiohttp.ClientError:
            return ""

    async def jobs(self) -> int:
        """How many TrainingJobs it knows."""
        found = re.findall(r"^stoker_jobs\{.*\} (\S+)$", await self.page("metrics"), re.MULTILINE)
        return int(sum(map(float, found)))

    async def knows(self, count: int) -> None:
        await self.until(f"it knows {count} jobs", self.jobs, lambda known: known == count)

    async def until(self, what: str, ask: Callable[[], Any], true: Callable[[Any], bool]) -> None:
        try:
            async with asyncio.timeout(30):
                while not true(await ask()):
                    assert self._process is not None
                    assert self._process.returncode is None, self.log
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"not within 30 s: {what}\n{self.log}")

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(40):
            return await self._process.wait()

    def signalled(self) -> bool:
        """Send SIGTERM; False once it has ended."""
        assert self._process is not None
        if self._process.returncode is None:
            # Popen's own send_signal also collects a process that has just ended, and asyncio then never learns its exit code.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
        return self._process.returncode is None

    async def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.ended()

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
async def process(api: FakeApi, tmp_path: Path) -> AsyncIterator[Process]:
    for name in "abc":
        await api.put(f"{COLLECTION}/{name}", apiVersion=API_VERSION, kind="TrainingJob", spec=SPEC)
    found = Process(api, tmp_path)
    try:
        await found.start()
        await found.knows(3)
        yield found
    finally:
        await found.end()


async def add(api: FakeApi, name: str) -> None:
    await api.put(f"{COLLECTION}/{name}", apiVersion=API_VERSION, kind="TrainingJob", spec=SPEC)


def error_event(code: int) -> dict[str, Any]:
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": "R", "message": "by the test"}}


async def test_what_went_behind_kopfs_back_goes_from_the_store_too(api: FakeApi, process: Process) -> None:
    api.vanish(f"{COLLECTION}/a")
    api.vanish(f"{COLLECTION}/b")
    await api.send(error_event(410), "/trainingjobs")

    await process.knows(1)
    assert await process.end() == 0


async def test_the_last_of_a_kind_that_went_behind_kopfs_back_goes_too(api: FakeApi, process: Process) -> None:
    """kopf's new list is empty then, and so no event tells of it."""
    await process.until("the sweep after kopf's first list is over", lambda: rested(api), bool)
    for name in "abc":
        api.vanish(f"{COLLECTION}/{name}")
    await api.send(error_event(410), "/trainingjobs")

    await process.knows(0)


@pytest.mark.parametrize("code", [500, 403])
async def test_an_error_event_that_kopf_cannot_take_ends_the_process_and_a_new_one_resumes(
    api: FakeApi, process: Process, code: int
) -> None:
    await api.send(error_event(code), "/trainingjobs")
    assert await process.ended() == 1, process.log
    assert "Error in the watch-stream" in process.log
    assert "the operator cannot go on without: kopf: " in process.log
    api.vanish(f"{COLLECTION}/a")
    await add(api, "d")
    await add(api, "e")
    await process.start()

    await process.knows(4)


@pytest.mark.parametrize("fault", [Fault(500), Fault(503), Fault(429), Fault(0, cut=True)])
async def test_it_outlives_an_api_server_that_only_fails(api: FakeApi, process: Process, fault: Fault) -> None:
    api.outage = fault
    seen = len(api.requests)
    await api.send(None)
    await process.until("it has asked again", lambda: requests(api), lambda count: count > seen + 20)
    api.vanish(f"{COLLECTION}/a")
    api.forget_history()
    api.outage = None
    await add(api, "d")
    await add(api, "e")

    await process.knows(4)
    assert await process.page("livez") == "ok"


async def test_a_signal_before_the_start_is_a_clean_end(api: FakeApi, tmp_path: Path) -> None:
    api.outage = Fault(500)
    process = Process(api, tmp_path)
    await process.spawn()
    await process.until("it asks the API server", lambda: requests(api), lambda count: count > 0)

    assert (0, True) == (await process.end(), "told to stop before the start" in process.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_as_soon_as_it_leads_gives_the_lease_back(
    api: FakeApi, tmp_path: Path, number: signal.Signals
) -> None:
    process = Process(api, tmp_path)
    await process.spawn()
    await process.until("it leads", lambda: holder(api), bool)

    assert (0, "") == (await process.end(number), await holder(api))


async def test_a_second_signal_makes_no_death_of_a_clean_end(api: FakeApi, process: Process) -> None:
    async with asyncio.timeout(40):
        while process.signalled():  # noqa: ASYNC110 (the signals are the test)
            await asyncio.sleep(0.002)

    assert await process.ended() == 0


async def holder(api: FakeApi) -> str:
    lease = api.objects.get("/apis/coordination.k8s.io/v1/namespaces/stoker-system/leases/stoker-operator", {})
    return str(lease.get("spec", {}).get("holderIdentity", ""))


async def rested(api: FakeApi) -> bool:
    """Whether the TrainingJobs were listed again since they are watched."""
    ours = [verb for verb, path, _ in api.requests if path.endswith("/trainingjobs")]
    return "GET" in ours[ours.index("WATCH") :]


async def requests(api: FakeApi) -> int:
    return len(api.requests)


async def test_it_outlives_an_api_server_that_restarts(api: FakeApi, process: Process) -> None:
    await api.stop()
    api.vanish(f"{COLLECTION}/a")
    api.forget_history()
    await add(api, "d")
    await add(api, "e")
    await api.start(api.port)

    await process.knows(4)
    await process.until("all is watched again", process.watchers, lambda count: count == 1)


def test_kopf_asks_again_without_end_and_never_later_than_a_minute() -> None:
    backoffs = kopf_front.settings().networking.error_backoffs
    pauses = [list(itertools.islice(iter(backoffs), 1000)) for _ in range(2)]

    assert [len(one) for one in pauses] == [1000, 1000]
    assert all(0.5 <= pause <= 60 for one in pauses for pause in one)
