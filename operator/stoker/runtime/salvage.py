"""salvage: save and seal what a pod left on its scratch claim when it was lost.

It runs in a pod of its own on the claim of the lost one, under the grant of the same rank. ship's journal lies there:
what was accepted before is not sent again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import List

from stoker.runtime import held
from stoker.runtime.layout import Scratch, write_termination_message
from stoker.runtime.ship import Lost, Ship
from stoker.runtime.sidecar import server_options, settings, transport


def main(arguments: List[str]) -> int:
    """Save one rank's remains. Exit code 0 once a seal stands, whoever wrote it; else 1, and another try may follow."""
    options = _parse(arguments)
    scratch = Scratch(options.dir)
    scratch.make()
    ship = Ship(scratch, transport(options), settings(), _say, Lost(options.lost_as, options.lost_message))
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever stops this pod does not end the saving: it goes on for as long as the pod lives.
        signal.signal(number, lambda *_: ship.hurry())
    held.release()
    if not os.path.exists(scratch.started):
        # No command was ever there whose end could be waited for.
        ship.command_ended()
    outcome = ship.run()
    if outcome["complete"]:
        _say("sealed: complete")
        return 0
    said = "%s: %s" % (outcome["reason"], outcome["message"])
    _say(("sealed: " if outcome["stands"] else "not sealed: ") + said)
    write_termination_message(said)
    return 0 if outcome["stands"] else 1


def _parse(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="salvage", description="Save what a lost pod left on its scratch claim.")
    server_options(parser)
    parser.add_argument("--lost-as", required=True, help="why the pod is lost, one CamelCase word")
    parser.add_argument("--lost-message", default="", help="the same for people")
    options = parser.parse_args(arguments)
    if not options.server:
        parser.error("give the server's URL (STOKER_SERVER or --server)")
    return options


def _say(line: str) -> None:
    print("%s salvage: %s" % (time.strftime("%H:%M:%S"), line), file=sys.stderr, flush=True)
