"""What rank 0 of an attempt has run on the other ranks: `serve` there does it, `Others` and `rsh` here ask for it.

All of them hold the attempt's secret (signed.py). No sshd, and nobody but the pods of this attempt is answered.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Callable, List, Mapping, Optional

from stoker.runtime import distribution, held, waiting
from stoker.runtime.layout import Scratch
from stoker.runtime.signed import Channel, NotTrusted

#: Beside MASTER_PORT, which is the training's own.
PORT_OFFSET = 1
#: Nodes of a gang start together; their names may take a moment to be known, their images longer to come.
PATIENCE_SECONDS = 1800.0
#: How a rank ends that lost another one.
FAILED = 1
_AGAIN_SECONDS = 0.2
#: What a served process gets between SIGTERM and SIGKILL once its run is over.
_GRACE_SECONDS = 5.0


class Gone(Exception):
    """The message says which node cannot be had, and why."""


class Others:
    """The other ranks, as long as rank 0 leads them; as a context manager it tells them at its end that it is over."""

    def __init__(self, node: distribution.Node, environment: Mapping[str, str]) -> None:
        self._node, self._environment = node, environment
        self._channels: List[Channel] = []
        self._over = threading.Event()
        #: The first that was lost; empty while none is.
        self.lost = ""

    def __enter__(self) -> "Others":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for channel in self._channels:
            with contextlib.suppress(OSError):
                channel.send({"end": True})
            channel.close()

    def meet(self) -> None:
        """Wait until all are there. Raises Gone."""
        if self._node.nodes > 1:
            secret, deadline = _secret(self._environment), time.monotonic() + PATIENCE_SECONDS
            for host in self._node.hosts[1:]:
                channel = _call(host, _port(self._node), secret, deadline)
                self._channels.append(channel)
                channel.send({"lead": True})

    def watch(self, lost: Callable[[], None]) -> None:
        """Call `lost` when the first of them is gone before the end."""
        for number, channel in enumerate(self._channels, 1):
            words = (self._node.hosts[number], channel, lost)
            threading.Thread(target=self._watch, args=words, name="watch", daemon=True).start()

    def _watch(self, host: str, channel: Channel, lost: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, NotTrusted):
            while channel.take() is not None:
                pass
        self.lose("%s is gone" % host, lost)

    def lose(self, said: str, lost: Callable[[], None]) -> None:
        """Note that something is lost, unless the end has come, or something was lost before."""
        if not self._over.is_set() and not self.lost:
            self.lost = said
            lost()

    def run(self, text: str, lost: Callable[[], None]) -> None:
        """Have the text run by a shell on each of them, until the end; one that ends before is lost."""
        for host in self._node.hosts[1:]:
            threading.Thread(target=self._run, args=(host, text, lost), name="run", daemon=True).start()

    def _run(self, host: str, text: str, lost: Callable[[], None]) -> None:
        try:
            code = run_on(host, text, self._node, self._environment)
            said = "on %s ended with exit code %d" % (host, code)
        except (Gone, NotTrusted, OSError) as error:
            said = "on %s could not be run: %s" % (host, error)
        self.lose("`%s` %s" % (text, said), lost)


def _secret(environment: Mapping[str, str]) -> bytes:
    path = Scratch(environment.get("STOKER_DIR") or "/stoker").gang_key
    with open(path, "rb") as file:
        return file.read()


def _port(node: distribution.Node) -> int:
    return node.master_port + PORT_OFFSET


def _call(host: str, port: int, secret: bytes, deadline: float) -> Channel:
    """A connection to a rank's `serve`, which may not be there yet. Raises Gone."""
    while True:
        try:
            return Channel(socket.create_connection((host, port), timeout=10), secret, calls=True)
        except NotTrusted as error:
            raise Gone("%s: %s" % (host, error)) from None
        except OSError as error:
            if time.monotonic() > deadline:
                raise Gone("%s cannot be reached: %s" % (host, error)) from None
            time.sleep(_AGAIN_SECONDS)


def run_on(host: str, text: str, node: distribution.Node, environment: Mapping[str, str]) -> int:
    """Run a text by a shell on another rank; its exit code. Raises Gone, NotTrusted, OSError."""
    channel = _call(host, _port(node), _secret(environment), time.monotonic() + 30)
    channel.send({"run": text})
    answer = channel.take()
    if answer is None:
        raise Gone("%s hung up" % host)
    return int(answer.get("code", 255))


# What mpirun calls instead of ssh


def rsh(arguments: List[str]) -> int:
    """`rsh HOST WORDS`: run the words by a shell on that node; exit code of the shell, 255 as ssh without one."""
    held.release()
    # Options of ssh that Open MPI may give come first.
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[1:]
    if len(arguments) < 2:
        say("usage: rsh HOST WORDS")
        return 2
    environment = dict(os.environ)
    host, text = arguments[0], " ".join(arguments[1:])
    try:
        node = distribution.node_of(environment)
        return run_on(host, text, node, environment)
    except (Gone, NotTrusted, OSError, ValueError) as error:
        say("rsh: %s" % error)
        return 255


# The other ranks


class _Serving:
    """What one rank runs for the lead."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._lock = threading.Lock()
        self._started: List["subprocess.Popen[bytes]"] = []
        #: Why it is over; empty when the lead said so. put() of a SimpleQueue may be called by a signal handler.
        self.over: "queue.SimpleQueue[str]" = queue.SimpleQueue()

    def connected(self, connection: socket.socket) -> None:
        """One connection, to its end."""
        try:
            channel = Channel(connection, self._secret, calls=False)
        except (NotTrusted, OSError) as error:
            say("a connection was refused: %s" % error)
            connection.close()
            return
        try:
            asked = channel.take() or {}
            if asked.get("lead"):
                self._led(channel)
            elif isinstance(asked.get("run"), str):
                channel.send({"code": self._run(asked["run"], channel)})
        except (NotTrusted, OSError) as error:
            say("a connection broke: %s" % error)
        finally:
            channel.close()

    def _led(self, channel: Channel) -> None:
        try:
            told = channel.take()
        except (NotTrusted, OSError):
            told = None
        self.over.put("" if told == {"end": True} else "rank 0 is gone")

    def _run(self, text: str, channel: Channel) -> int:
        process = subprocess.Popen(["sh", "-c", text], stdin=subprocess.DEVNULL)
        with self._lock:
            self._started.append(process)

        def hang_up() -> None:
            # mpirun ends its ssh to end what runs there.
            with contextlib.suppress(NotTrusted, OSError):
                while channel.take() is not None:
                    pass
            if process.poll() is None:
                process.terminate()

        threading.Thread(target=hang_up, name="hang-up", daemon=True).start()
        code = process.wait()
        return 128 - code if code < 0 else code

    def end(self) -> None:
        """End what was started; launch ends what that left running."""
        with self._lock:
            started = list(self._started)
        for process in started:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in started:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def serve(arguments: List[str]) -> int:
    """`serve`: until the lead says that the run is over, or is gone: 0 either way, for nothing failed here."""
    argparse.ArgumentParser(prog="serve", description="Run what rank 0 asks for.").parse_args(arguments)
    environment = dict(os.environ)
    node = distribution.node_of(environment)
    serving = _Serving(_secret(environment))
    signal.signal(signal.SIGTERM, lambda number, _frame: serving.over.put("told to stop"))
    # Before anything is started, which would else hold its signals back too.
    held.release()
    # On the address that the others know us by, and on no other.
    address = _address_of(node.hosts[node.rank], serving.over.empty)
    if address is None:
        return 0
    with socket.create_server((address, _port(node)), backlog=64) as server:
        threading.Thread(target=_accept, args=(server, serving.connected), name="accept", daemon=True).start()
        said = waiting.next_of(serving.over)
    if said:
        say(said)
    serving.end()
    return 0


def _accept(server: socket.socket, connected: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=connected, args=(connection,), name="connection", daemon=True).start()


def _address_of(host: str, wanted: Callable[[], bool]) -> Optional[str]:
    """Our own address, once our name is known; None when it is not wanted any more. Raises OSError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while wanted():
        try:
            return socket.gethostbyname(host)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_SECONDS)
    return None


def say(line: str) -> None:
    print("stoker: %s" % line, file=sys.stderr, flush=True)
