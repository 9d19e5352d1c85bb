"""The server is away while a run trains: what it writes waits on its scratch space, and is saved when the server is back."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stoker.server.keys import SECRET
from stoker.storage import layout, records
from stoker.storage.objects import StoreOptions
from tests.component.runtime.pod import Pod, eventually
from tests.component.server.test_ranks import KEY
from tests.component.server.test_replicas import Caller
from tests.component.storage.conftest import s3 as s3
from tests.support.replicas import replicas
from tests.support.serving import FakeKube, job_record

pytestmark = pytest.mark.lab

LINES, FILES = 200_000, 40
#: Prints and saves; says in files when it is half done, and then goes on only when the test lets it.
TRAIN = f"""
import os, pathlib, time
out = pathlib.Path("outputs")
for n in range({LINES}):
    print("line", n, "of a log that is not empty")
    if n % {LINES // FILES} == 0:
        (out / str(n)).write_bytes(b"%d " % n * 10_000)
    if n == {LINES // 2}:
        pathlib.Path("half").touch()
        while not os.path.exists("go-on"):
            time.sleep(0.01)
"""
LOG = b"".join(b"line %d of a log that is not empty\n" % n for n in range(LINES))
OUTPUTS = {f"outputs/{n}": b"%d " % n * 10_000 for n in range(0, LINES, LINES // FILES)}


class Run:
    """A run with its pod's processes, in a cluster of two servers."""

    def __init__(self, caller: Caller, folder: Path) -> None:
        self.caller, self.pod = caller, Pod(folder / "pod").prepare()
        self.pod.token.write_text("pod-token")
        (self.pod.work / "train.py").write_text(TRAIN)
        where = {"STOKER_SERVER": caller.url, "STOKER_ATTEMPT": "1", "STOKER_RANK": "0"}
        self.ship = self.pod.ship(**where)
        self.main = self.pod.launch("python3", "train.py", wait=True, **where)

    async def stored(self) -> set[str]:
        prefix = layout.rank_prefix(KEY, 1, 0)
        return {stored.key[len(prefix) :] async for stored in self.caller.real.list(prefix)}

    def servers_go(self) -> None:
        for replica in self.caller.both.all:
            replica.kill()

    def servers_come_back(self) -> None:
        for replica in self.caller.both.all:
            replica.start()
        for replica in self.caller.both.all:
            replica.await_ready()

    def finish(self) -> int:
        """To the end of the pod; the exit code of main."""
        self.main.communicate(timeout=120)
        self.ship.terminate()
        self.ship.communicate(timeout=30)
        return self.main.returncode

    async def is_saved_whole(self) -> None:
        seal = await records.read_seal(self.caller.real, KEY, 1, 0)
        assert seal is not None
        assert seal["complete"], seal["message"]
        expected = {path: hashlib.sha256(content).hexdigest() for path, content in OUTPUTS.items()}
        expected["logs/std_log.txt"] = hashlib.sha256(LOG).hexdigest()
        assert expected == {file["path"]: file["sha256"] for file in seal["files"]}
        assert LOG == await self.caller.real.get(layout.std_log(KEY, 1, 0))


@pytest.fixture
async def run(tmp_path: Path, s3: tuple[str, StoreOptions]) -> AsyncIterator[Run]:
    url, options = s3
    kube = FakeKube()
    kube.run()
    with replicas(tmp_path, kube, f"{url}/{secrets.token_hex(4)}", options) as both:
        caller = Caller(both)
        await records.write_job(caller.real, job_record())  # type: ignore[arg-type]
        run = Run(caller, tmp_path)
        try:
            yield run
        finally:
            run.pod.close()


async def test_training_goes_on_and_ends_while_the_server_is_away_and_all_is_saved_later(run: Run) -> None:
    """A command that had to wait for the server would not come to its end here: it is away until that."""
    eventually((run.pod.work / "half").exists, 60)
    run.servers_go()
    before = await run.stored()
    started = time.monotonic()
    (run.pod.work / "go-on").touch()

    eventually(Path(run.pod.scratch.exit).exists, 60)

    seconds = time.monotonic() - started
    assert 0 == run.pod.exit["code"]
    assert LOG == run.pod.log, "it waits on the scratch space"
    after = await run.stored()
    # What was signed before the servers went may land a moment later; nothing else does.
    assert before <= after
    assert len([path for path in after if path.startswith("outputs/")]) < FILES
    assert None is run.main.poll(), "the pod stays until all is saved"
    assert None is run.ship.poll()
    run.servers_come_back()
    assert 0 == run.finish()
    await run.is_saved_whole()
    print(f"{LINES // 2:,} lines and {FILES // 2} files in {seconds:.1f} s without a server")


async def test_a_run_whose_objects_are_gone_saves_all_the_same(run: Run) -> None:
    """The job was deleted, and its pods are about to go: the grant that ship has is good without any of them, also at
    servers that started later."""
    # A command that is quick to its half may be there before ship has asked for its grant.
    async with asyncio.timeout(60):
        while not await run.stored():  # noqa: ASYNC110 - a store tells nobody of what comes
            await asyncio.sleep(0.05)
    run.servers_go()
    kube = run.caller.kube
    kube.objects = {path: body for path, body in kube.objects.items() if path.endswith(SECRET)}
    kube.tokens.clear()
    (run.pod.work / "go-on").touch()

    run.servers_come_back()

    assert 0 == run.finish()
    assert 401 == run.caller.grant().status, "nobody gets a new grant"
    await run.is_saved_whole()


async def test_ship_that_dies_while_the_server_is_away_goes_on_where_it_was(run: Run) -> None:
    eventually((run.pod.work / "half").exists, 60)
    run.servers_go()
    (run.pod.work / "go-on").touch()
    eventually(Path(run.pod.scratch.exit).exists, 60)
    run.ship.kill()
    run.ship.wait()
    run.ship = run.pod.ship(STOKER_SERVER=run.caller.url, STOKER_ATTEMPT="1", STOKER_RANK="0")

    run.servers_come_back()

    assert 0 == run.finish()
    await run.is_saved_whole()
