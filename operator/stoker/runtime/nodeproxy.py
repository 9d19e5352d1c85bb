"""Gives a node's container runtime a way to a Service: a port of the node's own loopback, passed on byte by byte.

A runtime resolves no names of the cluster, but `127.0.0.1:PORT` is the same on every node, and runtimes speak plain http
to it without being told. Whoever is on the node may connect, nobody else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import signal
import sys
from typing import List, Optional, Set, Tuple

#: How soon a port that is taken is tried again: nothing tells us when another process lets go of it.
BIND_AGAIN_SECONDS = 1.0
CONNECT_SECONDS = 10.0
#: What is under way when the pod is told to end may take so long.
DRAIN_SECONDS = 20.0
_BLOCK = 1 << 16

Place = Tuple[str, int]


def main(arguments: List[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns 0, or 2 for arguments that cannot be meant."""
    parser = argparse.ArgumentParser(prog="stoker-agent nodeproxy", description="A port of this node for a Service.")
    parser.add_argument("--listen", required=True, metavar="IP:PORT", help="a loopback address, such as 127.0.0.1:5035")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="where connections are passed on to")
    options = parser.parse_args(arguments)
    try:
        listen, to = place_of("--listen", options.listen), place_of("--to", options.to)
        _require_loopback(listen[0])
    except ValueError as error:
        print(f"stoker-agent nodeproxy: {error}", file=sys.stderr)
        return 2
    asyncio.run(_until_told(NodeProxy(listen, to)))
    return 0


def place_of(flag: str, text: str) -> Place:
    """Host and port of `HOST:PORT`; raises ValueError that names the flag."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{flag} {text!r} is not HOST:PORT, such as 127.0.0.1:5035")
    return host, int(port)


def _require_loopback(host: str) -> None:
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise ValueError(f"--listen {host!r} is no loopback address: others than this node would get in; use 127.0.0.1")


class NodeProxy:
    """Listens at one place and passes every connection on to another. `started` is set once the port is ours."""

    def __init__(self, listen: Place, to: Place) -> None:
        self.listen, self.to = listen, to
        self.started = asyncio.Event()
        self._server: Optional[asyncio.Server] = None
        self._open: Set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take the port. While another process has it, which may be a proxy like this one, wait for our turn."""
        told = False
        while self._server is None:
            try:
                self._server = await asyncio.start_server(self._passed_on, *self.listen)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if not told:
                    _say(f"{_text(self.listen)} is taken by another process: waiting until it is free")
                    told = True
                await asyncio.sleep(BIND_AGAIN_SECONDS)
        self.listen = (self.listen[0], self._server.sockets[0].getsockname()[1])
        _say(f"passing {_text(self.listen)} on to {_text(self.to)}")
        self.started.set()

    def accepts(self) -> bool:
        return self._server is not None and self._server.is_serving()

    async def close(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Give the port back, let what is under way end, then cut it."""
        if self._server is not None:
            self._server.close()
        if self._open:
            await asyncio.wait(self._open, timeout=drain_seconds)
        for connection in list(self._open):
            connection.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _passed_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connecting = asyncio.open_connection(*self.to)
            far_reader, far_writer = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            # The runtime sees a cut connection and says so in the pod's events; the cause is told here.
            _say(f"{_text(self.to)} cannot be reached: {error or type(error).__name__}")
            return
        try:
            ways = [_pump(reader, far_writer), _pump(far_reader, writer)]
            done, other = await asyncio.wait(
                [asyncio.ensure_future(way) for way in ways], return_when="FIRST_EXCEPTION"
            )
            for way in other:
                way.cancel()
            # A side that hangs up in the middle is no fault of ours; the other side sees its connection end.
            await asyncio.gather(*done, *other, return_exceptions=True)
        finally:
            far_writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy until the source has no more, and tell the target: one way may end while the other still sends."""
    while True:
        block = await source.read(_BLOCK)
        if not block:
            break
        target.write(block)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def _until_told(proxy: NodeProxy) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    starting, stopping = asyncio.ensure_future(proxy.start()), asyncio.ensure_future(stop.wait())
    await asyncio.wait([starting, stopping], return_when="FIRST_COMPLETED")
    if starting.done():
        starting.result()
    await stopping
    starting.cancel()
    await proxy.close()


def _text(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def _say(line: str) -> None:
    print(line, flush=True)
