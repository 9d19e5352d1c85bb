"""A Ray cluster of a run's nodes: rank 0 has its head and runs the command; the other ranks join it (remote.py) until that ends."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from typing import Dict, List

from stoker.runtime import distribution, held, ourselves
from stoker.runtime.remote import FAILED, Gone, Others, say

_AGAIN_SECONDS = 0.2
#: What the head gets between SIGTERM and SIGKILL once the command has ended.
_GRACE_SECONDS = 10.0


def words(spread: distribution.Distribution, command: List[str]) -> List[str]:
    """The command of rank 0."""
    told = spread.ray
    head = ["--port=%d" % told.port, "--include-dashboard=%s" % str(told.dashboard).lower()]
    if told.dashboard_port is not None:
        head.append("--dashboard-port=%d" % told.dashboard_port)
    head += shlex.split(told.head_arguments)
    flags = ["--port", str(told.port), "--head=" + shlex.join(head), "--worker=" + told.worker_arguments]
    return ourselves.words("ray-lead", *flags, "--", *command)


def lead(arguments: List[str]) -> int:
    """`ray-lead … -- COMMAND`: exit code of the command, 127 without ray, 1 when the cluster is lost."""
    parser = argparse.ArgumentParser(prog="ray-lead", description="Run a command in a Ray cluster of a run's nodes.")
    parser.add_argument("--port", required=True, help="of the head")
    parser.add_argument("--head", default="", help="arguments of ray start on the head")
    parser.add_argument("--worker", default="", help="arguments of ray start on the others")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    environment = {"RAY_USAGE_STATS_ENABLED": "0", **os.environ}
    node = distribution.node_of(environment)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    held.release()
    if shutil.which("ray") is None:
        say("there is no ray on PATH; name an image or an environment that has the package ray")
        return 127
    with Others(node, environment) as others:
        try:
            others.meet()
        except Gone as error:
            say(str(error))
            return FAILED
        # With --block it ends what it started when it is ended; `ray stop` would end every Ray of this machine.
        head = subprocess.Popen(["ray", "start", "--head", "--block", *shlex.split(options.head)], env=environment)
        try:
            if not _listens(node.master_address, int(options.port), head):
                say("ray start --head ended with exit code %s" % head.poll())
                return FAILED
            return _train(options.command, options.port, options.worker, node, environment, others)
        finally:
            head.terminate()
            try:
                head.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                head.kill()


def _listens(host: str, port: int, head: "subprocess.Popen[bytes]") -> bool:
    """Wait until the head takes connections; False when it ended instead."""
    while head.poll() is None:
        try:
            socket.create_connection((host, port), timeout=10).close()
            return True
        except OSError:
            time.sleep(_AGAIN_SECONDS)
    return False


def _train(
    command: List[str], port: str, worker: str, node: distribution.Node, environment: Dict[str, str], others: Others
) -> int:
    address = "%s:%s" % (node.master_address, port)
    process = subprocess.Popen(command, env={**environment, "RAY_ADDRESS": address}, stdin=subprocess.DEVNULL)
    others.watch(process.terminate)
    others.run("exec ray start --address=%s --block %s" % (shlex.quote(address), worker), process.terminate)
    code = process.wait()
    if others.lost:
        say("%s; the command was ended" % others.lost)
    return (128 - code if code < 0 else code) or (FAILED if others.lost else 0)
