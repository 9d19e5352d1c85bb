"""Whom a pool asks for their nodes that has more than it may, where spec.scaleDown.mode is Requeue.

Nothing is removed here: a node is marked as taken back, which ends the attempt there as an interruption, and goes once
nobody has it any more, like every other node.
"""

from stoker.core.cluster.pool import Pool
from stoker.core.cluster.view import ClusterView
from stoker.core.plan import TaintPreempted


def taken_back(view: ClusterView, pool: Pool) -> tuple[TaintPreempted, ...]:
    """As many nodes with jobs as exceed maxInstances once all others have gone: those of the youngest attempts."""
    paced = view.cluster.spec.scale_down
    if paced is None or paced.mode != "Requeue" or pool.replicas is None:
        return ()
    if view.cluster.metadata.deletion_timestamp is not None:
        return ()  # whoever deletes a pool is told to wait for its jobs
    busy = {node.name for node in pool.of("Running")}
    excess = len(busy) - view.cluster.spec.max_instances
    gangs = [one for one in view.holdings if one.bound and not one.ending]
    names: list[str] = []
    for gang in sorted(gangs, key=lambda one: (one.since, one.uid), reverse=True):
        names += [name for name in gang.nodes if name in busy]
    return tuple(
        TaintPreempted(view.cluster.metadata.name, name) for name in list(dict.fromkeys(names))[: max(0, excess)]
    )
