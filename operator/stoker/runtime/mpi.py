"""mpirun over the nodes of a run, without sshd: rank 0 leads, and the other ranks start what its mpirun asks them to.

`mpi-lead` runs the command under mpirun once all nodes are there. mpirun calls `mpi-rsh HOST WORDS` where it would call ssh;
that asks `mpi-serve` on HOST, the command of every other rank. All of them hold the attempt's secret (signed.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Callable, Dict, List, Optional

from stoker.runtime import distribution, ourselves, waiting
from stoker.runtime.layout import Scratch
from stoker.runtime.signed import Channel, NotTrusted

#: Beside MASTER_PORT, which is the training's own.
PORT_OFFSET = 1
#: Nodes of a gang start together; their names may take a moment to be known, their images longer to come.
PATIENCE_SECONDS = 1800.0
_AGAIN_SECONDS = 0.2
#: What a served process gets between SIGTERM and SIGKILL once its run is over.
_GRACE_SECONDS = 5.0
_FAILED = 1


def words(rank: int, slots: int, grace_seconds: float, command: List[str]) -> List[str]:
    """The command of one rank: rank 0 leads, the others serve. grace_seconds: from SIGTERM to SIGKILL."""
    if rank:
        return ourselves.words("mpi-serve")
    grace = str(max(1, int(grace_seconds) - 1))
    return ourselves.words("mpi-lead", "--slots", str(slots), "--grace", grace, "--", *command)


class _Gone(Exception):
    """The message says which node cannot be had, and why."""


def _secret(environment: Dict[str, str]) -> bytes:
    path = Scratch(environment.get("STOKER_DIR") or "/stoker").gang_key
    with open(path, "rb") as file:
        return file.read()


def _port(node: distribution.Node) -> int:
    return node.master_port + PORT_OFFSET


def _call(host: str, port: int, secret: bytes, deadline: float) -> Channel:
    """A connection to a rank's `mpi-serve`, which may not be there yet. Raises _Gone."""
    while True:
        try:
            return Channel(socket.create_connection((host, port), timeout=10), secret, calls=True)
        except NotTrusted as error:
            raise _Gone("%s: %s" % (host, error)) from None
        except OSError as error:
            if time.monotonic() > deadline:
                raise _Gone("%s cannot be reached: %s" % (host, error)) from None
            time.sleep(_AGAIN_SECONDS)


# The lead


def lead(arguments: List[str]) -> int:
    """`mpi-lead --slots N -- COMMAND`: exit code of mpirun, 127 without one, 1 when a node is lost."""
    parser = argparse.ArgumentParser(prog="mpi-lead", description="Run a command under mpirun on all nodes of a run.")
    parser.add_argument("--slots", type=int, default=1, help="processes on each node")
    parser.add_argument("--grace", default="1", help="seconds from SIGTERM to SIGKILL for each process")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    environment = {"OMPI_MCA_odls_base_sigkill_timeout": options.grace, **os.environ}
    node = distribution.node_of(environment)
    # mpirun is in our group and gets the signal too; how it ends is how we end.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    if shutil.which("mpirun") is None:
        _say("there is no mpirun on PATH; name an image that has Open MPI")
        return 127
    channels: List[Channel] = []
    try:
        if node.nodes > 1:
            secret, deadline = _secret(environment), time.monotonic() + PATIENCE_SECONDS
            for host in node.hosts[1:]:
                channels.append(_call(host, _port(node), secret, deadline))  # noqa: PERF401 - what was called must be known
                channels[-1].send({"lead": True})
        return _mpirun(options.command, options.slots, node, environment, channels)
    except _Gone as error:
        _say(str(error))
        return _FAILED
    finally:
        for channel in channels:
            with contextlib.suppress(OSError):
                channel.send({"end": True})
            channel.close()


def _mpirun(
    command: List[str], slots: int, node: distribution.Node, environment: Dict[str, str], channels: List[Channel]
) -> int:
    scratch = Scratch(environment.get("STOKER_DIR") or "/stoker")
    hostfile = os.path.join(scratch.tmp, "hostfile")
    os.makedirs(scratch.tmp, exist_ok=True)
    with open(hostfile, "w", encoding="ascii") as file:
        # Ourselves by the name that this machine has: Open MPI tells by it which node needs no remote shell.
        for host in (socket.gethostname(), *node.hosts[1:]):
            file.write("%s slots=%d\n" % (host, slots))
    total = slots * node.nodes
    process = subprocess.Popen(
        ["mpirun", "--hostfile", hostfile, "-np", str(total), "--bind-to", "none", *command],
        env={**settings(environment), **environment},
        stdin=subprocess.DEVNULL,
    )
    ended = threading.Event()
    lost: List[str] = []

    def watch(host: str, channel: Channel) -> None:
        with contextlib.suppress(OSError, NotTrusted):
            while channel.take() is not None:
                pass
        if not ended.is_set():
            lost.append(host)
            process.terminate()

    for number, channel in enumerate(channels, 1):
        threading.Thread(target=watch, args=(node.hosts[number], channel), name="watch", daemon=True).start()
    code = process.wait()
    ended.set()
    if lost:
        _say("%s is gone; mpirun was ended" % lost[0])
    return (128 - code if code < 0 else code) or (_FAILED if lost else 0)


def settings(environment: Dict[str, str]) -> Dict[str, str]:
    """Open MPI's settings: of version 4 by OMPI_MCA_, of version 5, which calls it PRRTE, by PRTE_MCA_."""
    agent = " ".join(ourselves.words("mpi-rsh"))
    found = {
        "OMPI_MCA_plm_rsh_agent": agent,
        "PRTE_MCA_plm_ssh_agent": agent,
        # Every node is started from rank 0: the others have no way to each other's agents.
        "OMPI_MCA_plm_rsh_no_tree_spawn": "1",
        "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
        # The daemons stay our children, to be ended with us.
        "OMPI_MCA_orte_leave_session_attached": "1",
        "PRTE_MCA_prte_leave_session_attached": "1",
        # A pod is known by `pod.service`; the first part alone means nothing on another node.
        "OMPI_MCA_orte_keep_fqdn_hostnames": "1",
        "PRTE_MCA_prte_keep_fqdn_hostnames": "1",
        # Reading another process's memory needs a right that pods do not have.
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    }
    if hasattr(os, "getuid") and os.getuid() == 0:
        found.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return {name: value for name, value in found.items() if name not in environment}


# What mpirun calls instead of ssh


def rsh(arguments: List[str]) -> int:
    """`mpi-rsh HOST WORDS`: run the words by a shell on that node; exit code of the shell, 255 as ssh without one."""
    # Options of ssh that Open MPI may give come first.
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[1:]
    if len(arguments) < 2:
        _say("usage: mpi-rsh HOST WORDS")
        return 2
    environment = dict(os.environ)
    host, text = arguments[0], " ".join(arguments[1:])
    try:
        node = distribution.node_of(environment)
        channel = _call(host, _port(node), _secret(environment), time.monotonic() + 30)
        channel.send({"run": text})
        answer = channel.take()
    except (_Gone, NotTrusted, OSError, ValueError) as error:
        _say("mpi-rsh: %s" % error)
        return 255
    if answer is None:
        _say("mpi-rsh: %s hung up" % host)
        return 255
    return int(answer.get("code", 255))


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
            _say("a connection was refused: %s" % error)
            connection.close()
            return
        try:
            asked = channel.take() or {}
            if asked.get("lead"):
                self._led(channel)
            elif isinstance(asked.get("run"), str):
                channel.send({"code": self._run(asked["run"], channel)})
        except (NotTrusted, OSError) as error:
            _say("a connection broke: %s" % error)
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
    """`mpi-serve`: until the lead says that the run is over, or is gone: 0 either way, for nothing failed here."""
    argparse.ArgumentParser(prog="mpi-serve", description="Run what rank 0's mpirun asks for.").parse_args(arguments)
    environment = dict(os.environ)
    node = distribution.node_of(environment)
    serving = _Serving(_secret(environment))
    # On the address that the others know us by, and on no other.
    address = _address_of(node.hosts[node.rank])
    with socket.create_server((address, _port(node)), backlog=64) as server:
        threading.Thread(target=_accept, args=(server, serving.connected), name="accept", daemon=True).start()
        signal.signal(signal.SIGTERM, lambda number, _frame: serving.over.put("told to stop"))
        said = waiting.next_of(serving.over)
    if said:
        _say(said)
    serving.end()
    return 0


def _accept(server: socket.socket, connected: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=connected, args=(connection,), name="connection", daemon=True).start()


def _address_of(host: str, patience: float = PATIENCE_SECONDS) -> str:
    deadline: Optional[float] = time.monotonic() + patience
    while True:
        try:
            return socket.gethostbyname(host)
        except OSError:
            if deadline is not None and time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_SECONDS)


def _say(line: str) -> None:
    print("stoker: %s" % line, file=sys.stderr, flush=True)
