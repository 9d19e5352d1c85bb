"""The plan of one pool: who gets which nodes, how many nodes there should be, which ones go.

The only place that assigns nodes. One pass: see the nodes, keep what was given before, serve the gangs in order, then
size the pool for what they miss.
"""

from collections.abc import Mapping

from stoker.api import names
from stoker.core.cluster import assign, handover, requeue, scrub, status
from stoker.core.cluster.decide import Decision, decide
from stoker.core.cluster.pool import Pool, see
from stoker.core.cluster.view import ClusterPlan, ClusterView
from stoker.core.nodes import is_taken_back
from stoker.core.plan import Action, AdoptNode, HoldCluster, Plan, ReleaseCluster, TaintPreempted, UnassignNode


def plan(view: ClusterView, now: float) -> ClusterPlan:
    """What to do with a pool now. Total: nothing is raised for what nodes, jobs or a provider do.

    An assignment without a child is carried over by its Holding(bound=False) until its child exists or the job goes.
    """
    bound = frozenset(name for holding in view.holdings if holding.bound for name in holding.nodes)
    # A dead node whose pods are all being deleted is nobody's: its kubelet will never say that they are gone.
    in_use = frozenset(name for h in view.holdings if h.bound and not h.ending for name in h.nodes)
    bare = see(view, in_use, bound, now)
    made = decide(view, bare, assign.carried(view, bare), now, ends_boots=view.machines is not None)
    shown = status.status_of(view, bare, made, now)
    booting = [node.ready_by for node in bare.nodes.values() if node.ready_by is not None]
    rooms, again = _rooms(view, made, now)
    dirty = {node.name: node.dirty for node in bare.nodes.values() if node.dirty is not None}
    looks = [look.again for look in dirty.values() if look.again is not None]
    wakes = [moment for moment in (made.wake_at, again, *booting, *looks) if moment is not None and moment > now]
    return ClusterPlan(
        plan=Plan(
            (
                *_hold(view, made),
                *_preempted(view, bare),
                *requeue.taken_back(view, bare),
                *_adopt(view, bare),
                *_unassign(view),
                *made.sizing.actions,
                *rooms,
                *_scrub(view, dirty),
            ),
            None if shown == view.cluster.status else shown,
            min(wakes, default=None),
        ),
        assignments=made.assigned.nodes,
        ahead=made.assigned.ahead,
        waits=made.assigned.waits,
        first=tuple(made.assigned.first),
        freed_at=made.freed_at,
        kept_since=made.kept_since,
        rhythm=made.rhythm,
        meter=made.meter,
        past=made.orders.past if made.orders is not None else view.past,
        ready={node.name: node.kind for node in bare.of("Idle", "Running")},
        before=scrub.spoiled(view, _uses(view, made)),
    )


def _uses(view: ClusterView, made: Decision) -> Mapping[str, str]:
    """Who has or gets which node, by its name."""
    held = [((one.uid, one.attempt), one.nodes) for one in view.holdings]
    uses = (*held, *made.assigned.nodes.items())
    return {name: f"{names.uid8(uid)}-{attempt}" for (uid, attempt), nodes in uses for name in nodes}


def _scrub(view: ClusterView, dirty: Mapping[str, scrub.Look]) -> tuple[Action, ...]:
    """What is to be done for nodes whose scratch path is not known to be clean."""
    due = tuple(look.action for look in dirty.values() if look.action is not None)
    return (*due, *scrub.leftovers(view, [view.nodes[name] for name in dirty]))


def _hold(view: ClusterView, made: Decision) -> tuple[Action, ...]:
    """A pool that has machines must not go before they have: nobody would know of them any more."""
    if view.machines is None or view.machines.problem is not None or made.orders is None:
        return ()
    metadata = view.cluster.metadata
    held = names.FINALIZER_MACHINES in metadata.finalizers
    wanted = bool(view.machines.machines or made.orders.intents)
    if wanted and not held and metadata.deletion_timestamp is None:
        return (HoldCluster(metadata.name, metadata.uid),)
    return (ReleaseCluster(metadata.name, metadata.uid),) if held and not wanted else ()


def _rooms(view: ClusterView, made: Decision, now: float) -> tuple[tuple[Action, ...], float | None]:
    """Where somebody else makes room for gangs: what to ask of them."""
    if view.rooms is None:
        return (), None
    held = {(holding.uid, holding.attempt) for holding in view.holdings if holding.bound} | made.assigned.nodes.keys()
    return handover.orders(view.cluster.metadata.name, made.assigned.handed_over, view.rooms, held, now)


def _preempted(view: ClusterView, pool: Pool) -> tuple[Action, ...]:
    """Pods on a node that its provider takes back are told at once: they have its notice to save what they have."""
    return tuple(
        TaintPreempted(view.cluster.metadata.name, node.name)
        for node in pool.of("Preempted")
        if not is_taken_back(node.node)
    )


def _unassign(view: ClusterView) -> tuple[Action, ...]:
    """The label of an attempt that is over, on nodes that stay: no pod may come by it any more."""
    present = {(one.uid, one.attempt) for one in view.holdings} | {(one.uid, one.attempt) for one in view.demands}
    return tuple(
        UnassignNode(name, *key)
        for name, node in sorted(view.nodes.items())
        for key in sorted(names.assignees(node.metadata.labels))
        if key not in present
    )


def _adopt(view: ClusterView, pool: Pool) -> tuple[Action, ...]:
    """Label and taint for nodes of a scalable pool that lack them; nodes that the user brought stay as they are."""
    if view.cluster.spec.provider.type != "Scale" and view.machines is None:
        return ()
    name = view.cluster.metadata.name
    return tuple(
        AdoptNode(name, node.name)
        for node in pool.nodes.values()
        if not node.counted_out
        and (
            node.node.metadata.labels.get(names.LABEL_COMPUTE) != name
            or not any(taint.key == names.TAINT_COMPUTE and taint.value == name for taint in node.node.spec.taints)
        )
    )
