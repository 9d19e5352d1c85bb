"""ship as the sidecar of a pod (or, with --store, as a process beside a local run)."""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, Iterator, List, Optional

from stoker.runtime import held, waiting, wire
from stoker.runtime.layout import Scratch, read_json, write_termination_message
from stoker.runtime.saving import Settings
from stoker.runtime.ship import Ship
from stoker.runtime.tracking.serve import Tracking
from stoker.runtime.transport import Transport
from stoker.runtime.web import Refused, Transient, Web, patiently

READY_PORT = 8079


def main(arguments: List[str]) -> int:
    """Save one rank. In a pod it stays until SIGTERM, because the kubelet would start it again. Exit code 0 when
    the rank is sealed complete, else 1."""
    options = _parse(arguments)
    scratch = Scratch(options.dir)
    scratch.make()
    if options.store:
        held.release()
        return 0 if _ship(options, scratch, None)["complete"] else 1
    from stoker.runtime.ready import ReadyServer

    # Not an Event: its set() may not be called by a handler that interrupts its own wait().
    told: queue.SimpleQueue[None] = queue.SimpleQueue()
    state = _State()

    def stop(_number: int, _frame: object) -> None:
        told.put(None)
        state.hurry()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    held.release()
    ReadyServer(options.ready_port, lambda: state.has_ended)
    outcome = read_json(scratch.sealed)
    if outcome is None:
        with _tracking(scratch):
            outcome = _ship(options, scratch, state)
    state.is_done = True
    _say("sealed: %s" % ("complete" if outcome["complete"] else "%s: %s" % (outcome["reason"], outcome["message"])))
    if not outcome["complete"]:
        write_termination_message("%s: %s" % (outcome["reason"], outcome["message"]))
    waiting.next_of(told)
    return 0 if outcome["complete"] else 1


@contextlib.contextmanager
def _tracking(scratch: Scratch) -> Iterator[None]:
    """The tracking server while the rank is saved. Without its port a run goes on, and its MLflow calls fail."""
    try:
        tracking = Tracking(scratch, wire.TRACKING_PORT, _say)
    except OSError as error:
        _say("no tracking server: %s" % error)
        yield
        return
    try:
        yield
    finally:
        tracking.close()


class _State:
    """Between the signal handler and a ship that may not be there yet."""

    def __init__(self) -> None:
        self.ship: Optional[Ship] = None
        self.is_done = False
        self._hurried = False

    @property
    def has_ended(self) -> bool:
        return self.is_done or (self.ship is not None and self.ship.has_ended)

    def hurry(self) -> None:
        self._hurried = True
        if self.ship is not None:
            self.ship.hurry()

    def take(self, ship: Ship) -> None:
        self.ship = ship
        if self._hurried:
            ship.hurry()


def _ship(options: argparse.Namespace, scratch: Scratch, state: Optional[_State]) -> Any:
    ship = Ship(scratch, transport(options), settings(), _say)
    if state is not None:
        state.take(ship)
    return ship.run()


def settings() -> Settings:
    """ship's times, as the pod's environment has them."""
    return Settings(
        scan_seconds=_seconds("STOKER_SCAN_SECONDS", 1.0),
        log_seconds=_seconds("STOKER_LOG_SECONDS", 1.0),
        stall_seconds=_seconds("STOKER_SAVE_STALL_SECONDS", wire.SAVE_STALL_SECONDS),
        refused_seconds=_seconds("STOKER_REFUSED_SECONDS", 300.0),
    )


def transport(options: argparse.Namespace) -> Transport:
    """Where the rank's files go. options: as `server_options` has them, and for ship --store and what belongs to it."""
    if getattr(options, "store", None):
        from stoker.runtime.folder import FolderTransport, folder_of_url

        return FolderTransport(folder_of_url(options.store), options.job, options.attempt, options.rank)
    from stoker.runtime.grants import Server, ServerTransport

    web = Web(timeout=_seconds("STOKER_NETWORK_SECONDS", 60.0))
    server = Server(options.server, options.token_file, web)
    threading.Thread(target=_ask_early, args=(server,), name="grant", daemon=True).start()
    return ServerTransport(server)


def _ask_early(server: Any) -> None:
    """The grant outlives the job object, so it is asked for while that is certain to be there."""
    try:
        patiently(server.grant, time.monotonic() + 3600, _say)
    except (Transient, Refused) as error:
        _say("no grant yet: %s" % error)


def server_options(parser: argparse.ArgumentParser) -> None:
    """Options of what saves a rank by way of the server."""
    env = os.environ
    parser.add_argument("--dir", default=env.get("STOKER_DIR") or "/stoker", help="the scratch folder")
    parser.add_argument("--server", default=env.get("STOKER_SERVER"))
    parser.add_argument("--token-file", default=env.get("STOKER_TOKEN_FILE") or "/var/run/stoker/token")


def _parse(arguments: List[str]) -> argparse.Namespace:
    env = os.environ
    parser = argparse.ArgumentParser(prog="ship", description="Save what a run writes.")
    server_options(parser)
    parser.add_argument("--store", help="file:///path of a workspace, in place of a server")
    parser.add_argument("--job", help="key of the job in that workspace")
    parser.add_argument("--attempt", type=int, default=int(env.get("STOKER_ATTEMPT") or 1))
    parser.add_argument("--rank", type=int, default=int(env.get("STOKER_RANK") or 0))
    parser.add_argument("--ready-port", type=int, default=int(env.get("STOKER_READY_PORT") or READY_PORT))
    options = parser.parse_args(arguments)
    if bool(options.store) == bool(options.server):
        parser.error("give the server's URL (STOKER_SERVER or --server), or --store file:///path, and not both")
    if options.store and not options.job:
        parser.error("--store needs --job KEY")
    return options


def _seconds(name: str, default: float) -> float:
    return float(os.environ.get(name) or default)


def _say(line: str) -> None:
    print("%s ship: %s" % (time.strftime("%H:%M:%S"), line), file=sys.stderr, flush=True)
