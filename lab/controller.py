"""The lab's cloud: makes as many nodes as each NodePool wants. Runs as a process of its own, `python -m lab.controller NAME`.

It decides from three things: the pools and Nodes as the API server shows them, the machines on disk, and the wishes
that wait for their boot delay. Only booting and ending is done elsewhere, in threads.
"""

from __future__ import annotations

import http.client
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from lab import node
from lab.api import Api, ApiError, Json
from lab.host import LabError, reap
from lab.mirror import Mirror
from lab.state import State, read_network
from lab.volumes import Volumes

POOL_LABEL = "lab.stoker.dev/nodepool"
DELETE_MARK = "cluster.x-k8s.io/delete-machine"
#: On a Node: when its machine ends without a further word, in seconds since the epoch.
TAKEN_BACK_AT = "lab.stoker.dev/taken-back-at"
_POOLS = "/apis/lab.stoker.dev/v1/nodepools"
_NODES = "/api/v1/nodes"
_FAKE = {"kwok.x-k8s.io/node": "fake"}
_CAPACITY = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}

log = logging.getLogger("lab.controller")


def victims(nodes: list[Json], names: set[str], count: int) -> list[str]:
    """Which `count` of `names` go: marked Nodes first, then machines that are no Node yet, then the newest."""
    seen = {found["metadata"]["name"]: found for found in nodes}

    def order(name: str) -> tuple[int, int]:
        metadata = seen[name]["metadata"] if name in seen else {}
        rank = 1 if not metadata else 0 if DELETE_MARK in metadata.get("annotations", {}) else 2
        return rank, -number_of(name)

    return sorted(names, key=order)[:count]


def number_of(name: str) -> int:
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1


def ready(found: Json) -> bool:
    conditions = found.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def late_at(spec: Mapping[str, object], found: Json) -> float | None:
    """When a node is to show what its pool has it show late, in seconds since the epoch; None if it does already, or has
    nothing of the kind."""
    late = spec.get("late")
    if not isinstance(late, dict):
        return None
    shown = found.get("status", {}).get("allocatable", {})
    if all(shown.get(name) == amount for name, amount in late["resources"].items()):
        return None
    registered = datetime.fromisoformat(found["metadata"]["creationTimestamp"]).timestamp()
    return registered + float(late["seconds"])


def taken_back_at(found: Json) -> float | None:
    """When a node's machine is taken back, in seconds since the epoch; None if it is not."""
    told = found["metadata"].get("annotations", {}).get(TAKEN_BACK_AT)
    return None if told is None else float(told)


class Controller:
    """Compares and acts, one round for all pools after each change."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.api = Api(state.api_server, state.certificates, "controller")
        self.wake = threading.Event()
        self.pools = Mirror(_POOLS, "", self.wake.set)
        self.nodes = Mirror(_NODES, POOL_LABEL, self.wake.set)
        self.workers = ThreadPoolExecutor(max_workers=16)
        #: Wishes that wait for their boot delay: name -> (pool, when to boot on the monotonic clock).
        self.waiting: dict[str, tuple[str, float]] = {}
        #: Names whose boot or end is under way, and which of the two.
        self.booting: dict[str, tuple[str, Future[None]]] = {}
        self.ending: dict[str, Future[None]] = {}
        #: Names whose Node was seen: when it is gone later, someone deleted it.
        self.registered: set[str] = set()
        self.last_index: dict[str, int] = {}

    def run(self) -> None:
        threading.Thread(target=Volumes(self.state, self.api).run, daemon=True).start()
        for mirror in (self.pools, self.nodes):
            threading.Thread(target=mirror.follow, args=(self.api,), daemon=True).start()
        while True:
            due = min(self._due(), default=None)
            self.wake.wait(None if due is None else max(0.0, due))
            # Several events in a burst become one round.
            time.sleep(0.02)
            self.wake.clear()
            if self.pools.synced and self.nodes.synced:
                try:
                    self.round()
                except (OSError, ApiError, http.client.HTTPException) as error:
                    log.warning("%s", error)
                    threading.Timer(1, self.wake.set).start()

    def _due(self) -> Iterator[float]:
        """In how many seconds something is to be done though nothing happens."""
        yield from (when - time.monotonic() for _, when in self.waiting.values())
        pools = dict(self.pools.objects)
        for name, found in dict(self.nodes.objects).items():
            wanted = pools.get(found["metadata"]["labels"][POOL_LABEL])
            late = late_at(wanted["spec"], found) if wanted is not None and ready(found) else None
            gone = None if name in self.ending else taken_back_at(found)
            yield from (moment - time.time() for moment in (late, gone) if moment is not None)

    def round(self) -> None:
        reap()
        pools, nodes = dict(self.pools.objects), dict(self.nodes.objects)
        machines = {machine.name: machine for machine in node.machines(self.state)}
        self._forget_what_is_over(nodes)
        self._end_what_is_not_wanted(pools, nodes, machines)
        for name, wanted in pools.items():
            self._round(name, wanted, nodes, machines)

    def _forget_what_is_over(self, nodes: dict[str, Json]) -> None:
        self.registered.update(nodes)
        for name, (_, boot) in list(self.booting.items()):
            # A boot is over when the Node is there, or when it failed, which the next round tries anew.
            if name in nodes or (boot.done() and boot.exception()):
                del self.booting[name]
        for name, end in list(self.ending.items()):
            if end.done() and (name not in nodes or end.exception()):
                del self.ending[name]
                self.registered.discard(name)

    def _end_what_is_not_wanted(
        self, pools: dict[str, Json], nodes: dict[str, Json], machines: dict[str, node.Machine]
    ) -> None:
        """What belongs to a pool that is gone, and machines whose Node someone deleted."""
        for name, machine in machines.items():
            pool = machine.labels.get(POOL_LABEL)
            deleted = name in self.registered and name not in nodes
            if pool and (pool not in pools or deleted):
                self._end(name)
        for name, found in nodes.items():
            if found["metadata"]["labels"][POOL_LABEL] not in pools:
                self._end(name)
        for name, found in nodes.items():
            if (moment := taken_back_at(found)) is not None and moment <= time.time():
                self._end(name)
        self.waiting = {name: wish for name, wish in self.waiting.items() if wish[0] in pools}

    def _round(self, pool: str, wanted: Json, nodes: dict[str, Json], machines: dict[str, node.Machine]) -> None:
        spec = wanted["spec"]
        own_nodes = {n: o for n, o in nodes.items() if o["metadata"]["labels"][POOL_LABEL] == pool}
        names = set(own_nodes)
        names |= {name for name, machine in machines.items() if machine.labels.get(POOL_LABEL) == pool}
        names |= {name for name, (of, _) in self.booting.items() if of == pool}
        names |= {name for name, (of, _) in self.waiting.items() if of == pool}
        last = max(
            [self.last_index.get(pool, -1), wanted.get("status", {}).get("lastIndex", -1), *map(number_of, names)]
        )
        names -= set(self.ending)
        missing = spec.get("replicas", 0) - len(names)
        for _ in range(missing):
            last += 1
            name = f"{pool}-{last}"
            self.waiting[name] = (pool, time.monotonic() + spec.get("bootDelaySeconds", 0))
            names.add(name)
        self.last_index[pool] = last
        for name in victims(list(own_nodes.values()), names, -missing) if missing < 0 else ():
            names.discard(name)
            self._end(name)
        for name, (of, when) in list(self.waiting.items()):
            if of == pool and when <= time.monotonic():
                del self.waiting[name]
                self._boot(name, pool, spec)
        for name, found in own_nodes.items():
            moment = late_at(spec, found) if ready(found) else None
            if moment is not None and moment <= time.time():
                log.info("%s shows %s", name, spec["late"]["resources"])
                amounts = {"capacity": spec["late"]["resources"], "allocatable": spec["late"]["resources"]}
                self.api.request("PATCH", f"{_NODES}/{name}/status", {"status": amounts})
        status = {
            "replicas": len(names),
            "readyReplicas": sum(ready(own_nodes[name]) for name in names if name in own_nodes),
            "selector": f"{POOL_LABEL}={pool}",
            "lastIndex": last,
        }
        if status != wanted.get("status"):
            self.api.request("PATCH", f"{_POOLS}/{pool}/status", {"status": status})

    def _boot(self, name: str, pool: str, spec: Json) -> None:
        log.info("booting %s", name)
        labels = {**spec.get("labels", {}), POOL_LABEL: pool}
        taints = [{"value": "", **taint} for taint in spec.get("taints", [])]
        if spec.get("kind") == "Kwok":
            future = self.workers.submit(self._create_fake, name, labels, taints, spec.get("capacity") or {})
        else:
            future = self.workers.submit(self._boot_real, name, labels, taints, spec.get("disk", ""))
        self.booting[name] = (pool, future)
        future.add_done_callback(self._done)

    def _boot_real(self, name: str, labels: dict[str, str], taints: list[Json], disk: str) -> None:
        try:
            node.boot(self.state, name, labels=labels, taints=taints, disk=disk)
        except Exception:
            node.remove(self.state, name)
            raise

    def _create_fake(self, name: str, labels: dict[str, str], taints: list[Json], capacity: Json) -> None:
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", **labels}
        amounts = {**_CAPACITY, **capacity}
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels, "annotations": _FAKE},
            "spec": {"taints": taints, "providerID": f"kwok://{name}"},
            "status": {"capacity": amounts, "allocatable": amounts},
        }
        self.api.request("POST", _NODES, body)

    def _end(self, name: str) -> None:
        if name in self.ending:
            return
        self.waiting.pop(name, None)
        _, boot = self.booting.pop(name, ("", None))
        log.info("ending %s", name)
        self.ending[name] = self.workers.submit(self._remove, name, boot)
        self.ending[name].add_done_callback(self._done)

    def _remove(self, name: str, boot: Future[None] | None) -> None:
        if boot is not None:
            boot.exception()
        if (self.state.nodes / name).exists():
            node.remove(self.state, name)
        try:
            self.api.request("DELETE", f"{_NODES}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise

    def _done(self, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            self.wake.set()
        else:
            log.error("%s", error)
            threading.Timer(2, self.wake.set).start()


def main(name: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    numbers = read_network(name)
    if numbers is None:
        raise LabError(f"no lab named {name}")
    Controller(State(name, numbers)).run()


if __name__ == "__main__":
    main(sys.argv[1])
