"""What goes wrong: each fault is one thing that a cluster does to a run, made to happen in the lab.

A fault acts at once, and says when it is over and how it is undone; whoever plays them undoes all at the end.
"""

import os
import random
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lab as embedded
from lab import node
from stoker.api.names import FINISHED


class Cluster(Protocol):
    """What faults ask of the cluster."""

    lab: embedded.Lab

    def kubectl(self, *arguments: str, input: str | None = None) -> str: ...

    def items(self, kind: str, *selector: str) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Happening:
    """Something that was done. undo: ends it; None where nothing is left to be undone. seconds: how long it lasts."""

    told: str
    seconds: float = 0.0
    undo: Callable[[], None] | None = None


Fault = Callable[[Cluster, random.Random], Happening | None]


def pids(cgroup: str, words: str) -> list[int]:
    """The processes of this lab's cgroups whose command line holds `words`; only these are ever signalled."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if words in command and f"/{cgroup}" in groups:
            found.append(int(folder.name))
    return sorted(found)


def send(numbers: Iterable[int], what: signal.Signals) -> int:
    """How many of these processes still were there to take the signal."""
    taken = 0
    for number in numbers:
        try:
            os.kill(number, what)
            taken += 1
        except ProcessLookupError:
            continue
    return taken


# -- what people and Kubernetes do to pods


def pod_deleted(cluster: Cluster, rng: random.Random) -> Happening | None:
    pod = _running_pod(cluster, rng)
    if pod is None:
        return None
    grace = rng.choice((0, 1, 5, 600))
    _delete_pod(cluster, "default", pod["metadata"]["name"], grace)
    return Happening(f"deletes pod {pod['metadata']['name']} with grace {grace}")


def process_killed(cluster: Cluster, rng: random.Random) -> Happening | None:
    """As an OOM kill does it to one process. Whoever kills a command or its launcher ends a run that had done no wrong:
    how it may end is noted at the job first."""
    part, words = rng.choice(
        (("launch", "stoker-agent.pyz launch"), ("ship", "stoker.runtime ship"), ("command", "train.py"))
    )
    found = pids(cluster.lab.state.cgroup, words)
    if not found:
        return None
    number = rng.choice(found)
    if part != "ship" and (name := _job_of(cluster, number)) is not None:
        _note(cluster, name, "killed")
    return Happening(f"kills a {part} (process {number})") if send([number], signal.SIGKILL) else None


def canceled(cluster: Cluster, rng: random.Random) -> Happening | None:
    job = _unfinished(cluster, rng)
    if job is None:
        return None
    name = job["metadata"]["name"]
    _note(cluster, name, "canceled")
    cluster.kubectl("patch", "trainingjob", name, "--type=merge", "-p", '{"spec":{"cancel":true}}')
    return Happening(f"cancels {name}")


def deleted(cluster: Cluster, rng: random.Random) -> Happening | None:
    job = _unfinished(cluster, rng)
    if job is None:
        return None
    name = job["metadata"]["name"]
    cluster.kubectl("delete", "trainingjob", name, "--wait=false")
    return Happening(f"deletes {name}")


# -- nodes


def node_off(cluster: Cluster, rng: random.Random) -> Happening | None:
    """The machine is gone for good; the pool replaces it when its Node has been silent for long enough."""
    names = sorted(
        machine.name
        for machine in node.machines(cluster.lab.state)
        if not machine.name.startswith("system-") and node.running(cluster.lab.state, machine.name)
    )
    if not names:
        return None
    name = rng.choice(names)
    cluster.lab.power_off(name)
    return Happening(f"pulls the cable of node {name}")


# -- Stoker itself


def operator_killed(cluster: Cluster, rng: random.Random) -> Happening | None:
    number = _one_of(cluster, rng, "stoker.controller")
    return Happening(f"kills an operator (process {number})") if number and send([number], signal.SIGKILL) else None


def operator_stopped(cluster: Cluster, rng: random.Random) -> Happening | None:
    """Longer than the Lease lasts, at times: then it comes back as a former leader that does not know."""
    return _stopped(cluster, _one_of(cluster, rng, "stoker.controller"), "an operator", rng.uniform(3, 40))


def server_killed(cluster: Cluster, rng: random.Random) -> Happening | None:
    number = _one_of(cluster, rng, "stoker.server")
    return Happening(f"kills the server (process {number})") if number and send([number], signal.SIGKILL) else None


def server_stopped(cluster: Cluster, rng: random.Random) -> Happening | None:
    return _stopped(cluster, _one_of(cluster, rng, "stoker.server"), "the server", rng.uniform(3, 40))


# -- what everything stands on


def store_stopped(cluster: Cluster, rng: random.Random) -> Happening | None:
    return _lab_process_stopped(cluster, "versitygw", rng.uniform(3, 40))


def etcd_stopped(cluster: Cluster, rng: random.Random) -> Happening | None:
    return _lab_process_stopped(cluster, "etcd", rng.uniform(1, 8))


def api_server_stopped(cluster: Cluster, rng: random.Random) -> Happening | None:
    return _lab_process_stopped(cluster, "kube-apiserver", rng.uniform(1, 20))


def api_server_restarted(cluster: Cluster, rng: random.Random) -> Happening | None:
    """Killed, and started again with the same words: every watch is cut, and what was in flight has no answer."""
    processes = cluster.lab.state.processes
    found = processes.get("kube-apiserver")
    if found is None or not found.alive():
        return None
    place = Path(f"/proc/{found.pid}")
    argv = (place / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
    environment = dict(
        entry.split("=", 1) for entry in (place / "environ").read_bytes().decode().split("\0") if "=" in entry
    )
    processes.end(["kube-apiserver"], grace_seconds=0)
    down = rng.uniform(0, 10)
    return Happening("kills the API server", down, lambda: _started(cluster, "kube-apiserver", argv, environment))


def _started(cluster: Cluster, name: str, argv: list[str], environment: dict[str, str]) -> None:
    cluster.lab.state.processes.start(name, argv, env=environment)


FAULTS: tuple[tuple[int, Fault], ...] = (
    (5, pod_deleted),
    (5, process_killed),
    (2, canceled),
    (2, deleted),
    (1, node_off),
    (3, operator_killed),
    (3, operator_stopped),
    (3, server_killed),
    (2, server_stopped),
    (3, store_stopped),
    (1, etcd_stopped),
    (2, api_server_stopped),
    (2, api_server_restarted),
)


def _lab_process_stopped(cluster: Cluster, name: str, seconds: float) -> Happening | None:
    found = cluster.lab.state.processes.get(name)
    if found is None or not found.alive():
        return None
    found.signal(signal.SIGSTOP)
    return Happening(f"stops {name} for {seconds:.0f} s", seconds, lambda: found.signal(signal.SIGCONT))


def _stopped(cluster: Cluster, number: int | None, what: str, seconds: float) -> Happening | None:
    if number is None or not send([number], signal.SIGSTOP):
        return None
    # A signal for a process that has gone meanwhile must not reach another one of that number.
    cgroup = cluster.lab.state.cgroup
    undo = lambda: send({number} & set(pids(cgroup, "stoker.")), signal.SIGCONT)  # noqa: E731
    return Happening(f"stops {what} (process {number}) for {seconds:.0f} s", seconds, lambda: undo() and None)


def _one_of(cluster: Cluster, rng: random.Random, words: str) -> int | None:
    found = pids(cluster.lab.state.cgroup, words)
    return rng.choice(found) if found else None


def _note(cluster: Cluster, job: str, what: str) -> None:
    """At the job, before it is done: the rules must know of it whatever happens next."""
    cluster.kubectl("annotate", "trainingjob", job, f"chaos-{what}=yes", "--overwrite")


def _job_of(cluster: Cluster, number: int) -> str | None:
    """The job of the pod that a process runs in, by the pod's uid in the name of its cgroup."""
    try:
        groups = Path(f"/proc/{number}/cgroup").read_text().replace("_", "-")
    except OSError:
        return None
    pods = cluster.items("pods", "-l", "stoker.dev/job")
    return next((pod["metadata"]["labels"]["stoker.dev/job"] for pod in pods if pod["metadata"]["uid"] in groups), None)


def _running_pod(cluster: Cluster, rng: random.Random) -> dict[str, Any] | None:
    pods = cluster.items("pods", "-l", "stoker.dev/job", "--field-selector=status.phase=Running")
    return rng.choice(pods) if pods else None


def _unfinished(cluster: Cluster, rng: random.Random) -> dict[str, Any] | None:
    jobs = [job for job in cluster.items("trainingjobs") if job["status"].get("phase") not in FINISHED]
    return rng.choice(jobs) if jobs else None


def _delete_pod(cluster: Cluster, namespace: str, name: str, grace: int) -> None:
    force = ["--force"] if grace == 0 else []
    cluster.kubectl(
        "delete", "pod", name, "-n", namespace, f"--grace-period={grace}", "--wait=false", "--ignore-not-found", *force
    )
