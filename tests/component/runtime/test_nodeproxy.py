"""A node's port for a Service: what comes in goes on unchanged, both ways, and only from the node itself."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from stoker.runtime import nodeproxy
from stoker.runtime.nodeproxy import NodeProxy

Place = tuple[str, int]


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets, and answers in capitals once the caller has said that it is done: needs a half-closed connection."""
    writer.write(b"> ")
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Place]:
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


async def ask(place: Place, words: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*place)
    writer.write(words)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.asyncio
async def test_bytes_go_on_and_come_back_whole(service: Place) -> None:
    proxy = NodeProxy(("127.0.0.1", 0), service)
    await proxy.start()
    words = b"stoker " * 300_000

    answers = await asyncio.gather(*(ask(proxy.listen, words) for _ in range(4)))

    assert [b"> " + words.upper()] * 4 == answers
    await proxy.close()


@pytest.mark.asyncio
async def test_a_second_proxy_on_the_port_waits_for_its_turn(service: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodeproxy, "BIND_AGAIN_SECONDS", 0.02)
    first = NodeProxy(("127.0.0.1", 0), service)
    await first.start()
    second = NodeProxy(first.listen, service)
    starting = asyncio.create_task(second.start())
    await asyncio.sleep(0.1)
    waited = not second.started.is_set()

    await first.close()
    await asyncio.wait_for(starting, 5)

    assert waited
    assert b"> HELLO" == await ask(second.listen, b"hello")
    await second.close()


@pytest.mark.asyncio
async def test_a_service_that_is_away_ends_the_connection_and_is_told_of(
    service: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = unused.getsockname()
        proxy = NodeProxy(("127.0.0.1", 0), nowhere)
        await proxy.start()

        assert b"" == await ask(proxy.listen, b"hello")

    assert f"127.0.0.1:{nowhere[1]} cannot be reached" in capsys.readouterr().out
    await proxy.close()


@pytest.mark.asyncio
async def test_a_pull_under_way_may_end_after_the_port_is_given_back(service: Place) -> None:
    proxy = NodeProxy(("127.0.0.1", 0), service)
    await proxy.start()
    reader, writer = await asyncio.open_connection(*proxy.listen)
    writer.write(b"half")
    greeting = await reader.readexactly(2)
    closing = asyncio.create_task(proxy.close())
    await asyncio.sleep(0)
    accepts = proxy.accepts()

    writer.write(b" and half")
    writer.write_eof()

    assert (b"> ", b"HALF AND HALF") == (greeting, await reader.read())
    assert not accepts
    await closing


@pytest.mark.parametrize(
    ("listen", "to", "said"),
    [
        ("0.0.0.0:5035", "registry:5000", "no loopback address"),
        ("registry:5035", "registry:5000", "no loopback address"),
        ("127.0.0.1", "registry:5000", "--listen '127.0.0.1' is not HOST:PORT"),
        ("127.0.0.1:5035", "registry", "--to 'registry' is not HOST:PORT"),
    ],
)
def test_what_would_let_others_in_is_refused(
    listen: str, to: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == nodeproxy.main(["--listen", listen, "--to", to])
    assert said in capsys.readouterr().err


def test_the_process_serves_and_ends_when_told(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as far, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        process = subprocess.Popen(
            [sys.executable, "-m", "stoker.runtime", "nodeproxy", f"--listen=127.0.0.1:{port}", f"--to=127.0.0.1:{far.getsockname()[1]}"],
            cwd=repository / "operator", stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert f"passing 127.0.0.1:{port} on" in process.stdout.readline()

        process.terminate()

        assert 0 == process.wait(10)
        process.stdout.close()
