"""Which processes of a distributed command run on a node, and what each is told about the others."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

#: Types where rank 0 leads, and has the others do what it asks for (remote.py).
LED = ("mpi", "ray")
TYPES = ("pytorch", "tensorflow", "jax", *LED)


class Ray(NamedTuple):
    """A Ray cluster. port: of its head. head_arguments, worker_arguments: more for `ray start`, as a shell reads them."""

    port: int = 6379
    dashboard: bool = False
    dashboard_port: Optional[int] = None
    head_arguments: str = ""
    worker_arguments: str = ""


class Distribution(NamedTuple):
    """How a command is distributed. per_node: processes on each node, not of tensorflow. workers: of tensorflow, None for
    one on each node; parameter_servers: of tensorflow, on its one node."""

    type: str
    per_node: int = 1
    workers: Optional[int] = None
    parameter_servers: int = 0
    ray: Ray = Ray()

    def document(self) -> Dict[str, Any]:
        """As job.json and launch.json have it."""
        told: Dict[str, Any] = {"type": self.type}
        if self.per_node != 1:
            told["processCountPerInstance"] = self.per_node
        if self.workers is not None:
            told["workerCount"] = self.workers
        if self.parameter_servers:
            told["parameterServerCount"] = self.parameter_servers
        if self.type == "ray":
            told["port"], told["includeDashboard"] = self.ray.port, self.ray.dashboard
            told["dashboardPort"] = self.ray.dashboard_port
            told["headNodeAdditionalArgs"] = self.ray.head_arguments
            told["workerNodeAdditionalArgs"] = self.ray.worker_arguments
        return told


class Node(NamedTuple):
    """One node among those of a run. hosts: of all nodes by rank; empty where there are too many to be listed."""

    rank: int
    nodes: int
    hosts: Sequence[str]
    master_address: str
    master_port: int


class Process(NamedTuple):
    """One process of a node. number: among those of all nodes. serves: it has no end of its own, and is ended once those
    that have one have ended."""

    number: int
    variables: Mapping[str, str]
    serves: bool = False


def read(document: Any) -> Optional[Distribution]:
    """The distribution in job.json or launch.json, None for none; raises ValueError when it is of no type known here."""
    if document is None:
        return None
    if not isinstance(document, dict) or document.get("type") not in TYPES:
        raise ValueError("%r is no distribution that this version knows" % (document,))
    workers = document.get("workerCount")
    return Distribution(
        str(document["type"]),
        int(document.get("processCountPerInstance") or 1),
        None if workers is None else int(workers),
        int(document.get("parameterServerCount") or 0),
        Ray(
            int(document.get("port") or Ray().port),
            bool(document.get("includeDashboard")),
            document.get("dashboardPort"),
            str(document.get("headNodeAdditionalArgs") or ""),
            str(document.get("workerNodeAdditionalArgs") or ""),
        ),
    )


def node_of(environment: Mapping[str, str]) -> Node:
    """Where we are, from Stoker's variables; raises ValueError when they do not say it."""
    try:
        rank, count = int(environment.get("STOKER_RANK") or 0), int(environment.get("STOKER_NODE_COUNT") or 1)
        port = int(environment.get("MASTER_PORT") or 29500)
    except ValueError as error:
        raise ValueError("STOKER_RANK, STOKER_NODE_COUNT and MASTER_PORT have to be numbers: %s" % error) from None
    hosts = [host for host in environment.get("STOKER_HOSTS", "").split(",") if host]
    if count == 1 and not hosts:
        hosts = ["localhost"]
    return Node(rank, count, hosts, environment.get("MASTER_ADDR") or "localhost", port)


def processes(distribution: Distribution, node: Node) -> List[Process]:
    """The processes of this node. Raises ValueError when the node cannot tell its processes where the others are."""
    return [
        one._replace(variables={**one.variables, "AZUREML_PROCESS_NAME": "rank_%d" % one.number})
        for one in _processes(distribution, node)
    ]


def _processes(distribution: Distribution, node: Node) -> List[Process]:
    if distribution.type in LED:
        if len(node.hosts) != node.nodes:
            raise ValueError("rank 0 calls every node, and a run of %d nodes has no list of them" % node.nodes)
        return [Process(node.rank, {})]
    if distribution.type == "tensorflow":
        return _tensorflow(distribution, node)
    count, world = distribution.per_node, distribution.per_node * node.nodes
    variables = _pytorch if distribution.type == "pytorch" else _jax
    first = node.rank * count
    return [Process(first + local, variables(first + local, local, count, world, node)) for local in range(count)]


def _pytorch(number: int, local: int, count: int, world: int, node: Node) -> Dict[str, str]:
    told = {
        "RANK": str(number),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(count),
        "NODE_RANK": str(node.rank),
        "GROUP_RANK": str(node.rank),
        "MASTER_ADDR": node.master_address,
        "MASTER_PORT": str(node.master_port),
    }
    if count == 1:
        # torchrun takes the defaults of its options from these.
        told.update(
            PET_NNODES=str(node.nodes),
            PET_NODE_RANK=str(node.rank),
            PET_MASTER_ADDR=node.master_address,
            PET_MASTER_PORT=str(node.master_port),
        )
    return told


def _jax(number: int, local: int, count: int, world: int, node: Node) -> Dict[str, str]:
    told = {
        "JAX_COORDINATOR_ADDRESS": "%s:%d" % (node.master_address, node.master_port),
        "JAX_NUM_PROCESSES": str(world),
        "JAX_PROCESS_ID": str(number),
    }
    if count > 1:
        # Processes of one node share its devices: each takes the one of its own number.
        told["JAX_LOCAL_DEVICE_IDS"] = str(local)
    return told


def _tensorflow(distribution: Distribution, node: Node) -> List[Process]:
    """Worker w is on node w mod the number of nodes. Each task has a port of its own, so that nodes may be one machine."""
    workers = distribution.workers if distribution.workers is not None else node.nodes
    if len(node.hosts) != node.nodes:
        raise ValueError("TF_CONFIG names every node, and a run of %d nodes has no list of them" % node.nodes)
    tasks = [("worker", index) for index in range(workers)]
    tasks += [("ps", index) for index in range(distribution.parameter_servers)]
    cluster: Dict[str, List[str]] = {}
    for number, (kind, index) in enumerate(tasks):
        where = "%s:%d" % (node.hosts[index % node.nodes], node.master_port + number)
        cluster.setdefault(kind, []).append(where)
    found = []
    for number, (kind, index) in enumerate(tasks):
        if index % node.nodes == node.rank:
            config = {"cluster": cluster, "task": {"type": kind, "index": index}}
            found.append(Process(number, {"TF_CONFIG": json.dumps(config)}, serves=kind == "ps"))
    return found
