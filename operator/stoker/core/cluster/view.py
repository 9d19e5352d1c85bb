"""What the planner of a ComputeCluster sees: its nodes, the jobs that want or have them, and what its provider says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from stoker.api.computecluster import ComputeCluster, ComputeClusterStatus
from stoker.api.kube import Node, Pod
from stoker.api.trainingjob import Priority
from stoker.core.cluster.learned import Rhythm
from stoker.core.cluster.machines import LaunchFailure, MachinesView, Past
from stoker.core.plan import Action, Plan


@dataclass(frozen=True, slots=True)
class Demand:
    """A job whose snapshot and image are ready and that wants nodes for its next attempt. avoid: nodes that its former
    attempts had and could not use; it gets others where others can be had. requests: what the command of each of its pods
    asks for; empty: a whole node. seconds: for how long it has its nodes at most, by its limit and what it takes to start;
    None: it has no limit."""

    uid: str
    namespace: str
    name: str
    attempt: int
    count: int
    since: float  # seconds since the epoch: when the job was created
    instance_type: str | None = None
    priority: Priority = "Medium"
    avoid: frozenset[str] = frozenset()
    requests: tuple[tuple[str, str], ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """Nodes that an attempt has: by an unfinished child, by pods that still exist, or by an assignment of this plan's
    predecessor that has no child yet.

    nodes: by name. bound: False while no child exists (the assignment lives in memory only). count: nodes that the
    attempt takes in all, where a pool that owns no nodes has not placed each pod yet. ending: no unfinished child, and
    every pod is being deleted: what is left on a dead node, whose kubelet cannot confirm that the pods are gone.
    namespace: whose share of the pool it counts to. since: when the attempt began (seconds since the epoch). ends_at: when
    it has ended at the latest, by its job's limit; None: it has none. ahead: why it started before the gang that was first
    in line; empty where it did not. requests: as of a Demand; empty where nobody knows them, too.
    """

    uid: str
    attempt: int
    nodes: tuple[str, ...]
    bound: bool = True
    count: int = 0
    ending: bool = False
    namespace: str = ""
    since: float = 0.0
    ends_at: float | None = None
    ahead: str = ""
    requests: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ScaleView:
    """What the pool's scalable object says: replicas wanted and there, or why it cannot be read. rollout: what is under
    way that could take another node than the one we mean; until it ends none is removed. Empty: nothing."""

    replicas: int = 0
    problem: tuple[str, str] | None = None
    rollout: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """What a namespace may have at a time and spend in a month, None for no limit, and what it has in other pools and spent
    there this month."""

    max_nodes: int | None = None
    max_gpus: int | None = None
    nodes_elsewhere: int = 0
    gpus_elsewhere: int = 0
    cost_per_month: float | None = None
    cost_elsewhere: float = 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What a pool uses at a moment: nodes in all, of them idle, with a job and booting, and their price an hour; prices: of
    those that a namespace's jobs have, by namespace."""

    nodes: int = 0
    idle: int = 0
    busy: int = 0
    booting: int = 0
    price: float = 0.0
    prices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Meter:
    """What a pool has used until `at`, in node-seconds and money; today: of that day; month_costs: of that month, by
    namespace whose jobs had the nodes. rates: since then."""

    at: float
    nodes: float = 0.0
    idle: float = 0.0
    busy: float = 0.0
    booting: float = 0.0
    cost: float = 0.0
    today_nodes: float = 0.0
    today_cost: float = 0.0
    month_costs: Mapping[str, float] = field(default_factory=dict)
    rates: Rates = field(default_factory=Rates)


RoomAnswer = Literal["Waiting", "Provisioned", "Failed"]


@dataclass(frozen=True, slots=True)
class RoomRequest:
    """What stands of the request for a gang's room. uid: of its object. reason, message: the words of whoever was asked.
    since: when that answer came (seconds since the epoch)."""

    namespace: str
    name: str
    uid: str
    answer: RoomAnswer = "Waiting"
    reason: str = ""
    message: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class RoomsView:
    """The requests for room that stand, by job uid and attempt. problem: why they cannot be known now, a reason and a
    message; then none is made or taken back, and nobody is granted anything."""

    requests: Mapping[tuple[str, int], RoomRequest] = field(default_factory=dict)
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Everything that the plan of one ComputeCluster rests on.

    nodes: the pool's nodes (by its label or its provider's selector), by name. occupied: nodes with pods on them that
    have not ended, are no DaemonSet's, and are not ours while being deleted (those are holdings), by name: never to be
    removed. Re-listed from the API server once a node has the leaving taint. demands: in no order. freed_at: when each
    node lost its last job or became ready (seconds since the epoch), kept in memory; missing: unknown, counts as now.
    first: (job uid, attempt) of those for which the last plan kept nodes, in its order; kept_since: since when, for
    each of them. rhythm: how the pool's jobs come and go; None: read from the status what it keeps. weights: by
    namespace, what its Workspace says; missing: 1. quotas: of the namespaces that have one. machines: what a provider
    of single machines lists; None on a pool of another kind. launch_failures: the last answer to each launch that
    failed, by its token, until its intent has gone from the status. rooms: the requests of a pool for which somebody else
    makes room. others: on a pool that jobs share, what pods of others ask for, by node, summed. past: what the last pass over
    such a pool left. meter: what the pool has used; None: read from the status what it keeps. scrubs: the pods that scrub
    nodes of this pool; None: the operator may make none.
    """

    cluster: ComputeCluster
    nodes: Mapping[str, Node] = field(default_factory=dict)
    demands: tuple[Demand, ...] = ()
    holdings: tuple[Holding, ...] = ()
    freed_at: Mapping[str, float] = field(default_factory=dict)
    occupied: frozenset[str] = frozenset()
    scale: ScaleView | None = None
    first: tuple[tuple[str, int], ...] = ()
    kept_since: Mapping[tuple[str, int], float] = field(default_factory=dict)
    rhythm: Rhythm | None = None
    weights: Mapping[str, int] = field(default_factory=dict)
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    machines: MachinesView | None = None
    rooms: RoomsView | None = None
    others: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    launch_failures: tuple[LaunchFailure, ...] = ()
    past: Past = field(default_factory=Past)
    meter: Meter | None = None
    scrubs: tuple[Pod, ...] | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a demand has no nodes yet. fix: what a person can do, even if that is to wait."""

    reason: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What to do with the pool, and which jobs get which nodes.

    assignments: (job uid, attempt) -> nodes in rank order (empty tuple: granted on a pool that owns no nodes); whole
    gangs only. ahead: of those that start before the gang that is first in line, why they may. waits: the same keys ->
    why not yet. freed_at, first, kept_since, rhythm, past, meter: to be kept for the next view. before: what is to be done
    before anybody is told of the assignments. ready: nodes that have a job or could take one, by name: their instance types.
    """

    plan: Plan[ComputeClusterStatus]
    assignments: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    ahead: Mapping[tuple[str, int], str] = field(default_factory=dict)
    waits: Mapping[tuple[str, int], Wait] = field(default_factory=dict)
    freed_at: Mapping[str, float] = field(default_factory=dict)
    first: tuple[tuple[str, int], ...] = ()
    kept_since: Mapping[tuple[str, int], float] = field(default_factory=dict)
    rhythm: Rhythm = field(default_factory=Rhythm)
    past: Past = field(default_factory=Past)
    meter: Meter | None = None
    ready: Mapping[str, str] = field(default_factory=dict)
    before: tuple[Action, ...] = ()
