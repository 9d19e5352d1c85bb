"""mpirun over the nodes of a run, without sshd: rank 0 runs the command under the image's mpirun, which calls `rsh HOST WORDS` of
ours where it would call ssh; that asks `serve` on HOST (remote.py)."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
from typing import Dict, List

from stoker.runtime import distribution, held, ourselves
from stoker.runtime.layout import Scratch
from stoker.runtime.remote import FAILED, Gone, Others, say


def words(slots: int, grace_seconds: float, command: List[str]) -> List[str]:
    """The command of rank 0. slots: processes on each node. grace_seconds: from SIGTERM to SIGKILL."""
    grace = str(max(1, int(grace_seconds) - 1))
    return ourselves.words("mpi-lead", "--slots", str(slots), "--grace", grace, "--", *command)


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
    held.release()
    if shutil.which("mpirun") is None:
        say("there is no mpirun on PATH; name an image that has Open MPI")
        return 127
    with Others(node, environment) as others:
        try:
            others.meet()
        except Gone as error:
            say(str(error))
            return FAILED
        return _mpirun(options.command, options.slots, node, environment, others)


def _mpirun(
    command: List[str], slots: int, node: distribution.Node, environment: Dict[str, str], others: Others
) -> int:
    scratch = Scratch(environment.get("STOKER_DIR") or "/stoker")
    hostfile = os.path.join(scratch.tmp, "hostfile")
    os.makedirs(scratch.tmp, exist_ok=True)
    with open(hostfile, "w", encoding="ascii") as file:
        # Ourselves by the name that this machine has: Open MPI tells by it which node needs no remote shell.
        for host in (socket.gethostname(), *node.hosts[1:]):
            file.write("%s slots=%d\n" % (host, slots))
    total = str(slots * node.nodes)
    process = subprocess.Popen(
        ["mpirun", "--hostfile", hostfile, "-np", total, "--bind-to", "none", *command],
        env={**settings(environment), **environment},
        stdin=subprocess.DEVNULL,
    )
    others.watch(process.terminate)
    code = process.wait()
    if others.lost:
        say("%s; mpirun was ended" % others.lost)
    return (128 - code if code < 0 else code) or (FAILED if others.lost else 0)


def settings(environment: Dict[str, str]) -> Dict[str, str]:
    """Open MPI's settings: of version 4 by OMPI_MCA_, of version 5, which calls it PRRTE, by PRTE_MCA_."""
    agent = " ".join(ourselves.words("rsh"))
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
