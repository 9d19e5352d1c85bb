"""The status of a pool: counts by state, who waits and why, what a person should look at."""

from collections import Counter
from collections.abc import Mapping

import msgspec

from stoker.api.computecluster import ComputeClusterStatus, LearnedIdle, NodeCounts, Problem
from stoker.core import times
from stoker.core.cluster import learned, usage
from stoker.core.cluster.assign import Assigned
from stoker.core.cluster.backoff import wait_for
from stoker.core.cluster.decide import Decision
from stoker.core.cluster.explain import members
from stoker.core.cluster.pool import Pool, kind_of, shortfall
from stoker.core.cluster.view import ClusterView
from stoker.core.conditions import Fact, kstatus, stamped

_MOST_PROBLEMS, _MOST_REASONS = 20, 32
#: What a pool has learned is written at most so often, in seconds.
_LEARNED_SECONDS = 3600.0


def status_of(view: ClusterView, pool: Pool, made: Decision, now: float) -> ComputeClusterStatus:
    """The whole status, as after this decision."""
    assigned, replicas = made.assigned, made.sizing.replicas
    external = not view.cluster.spec.provider.owns_nodes
    given = {name for nodes in assigned.nodes.values() for name in nodes}
    states = Counter("Running" if name in given else node.state for name, node in pool.nodes.items())
    counted = sum(1 for node in pool.nodes.values() if not node.counted_out)
    running = sum(max(h.count, len(h.nodes)) for h in view.holdings if h.bound) if external else states["Running"]
    counts = NodeCounts(
        idle=states["Idle"],
        running=running,
        preparing=states["Preparing"] + max(0, replicas - counted),
        unusable=states["Unusable"],
        leaving=states["Leaving"],
        preempted=states["Preempted"],
    )
    metadata = view.cluster.metadata
    status = ComputeClusterStatus(
        observed_generation=metadata.generation,
        conditions=stamped(_facts(view), view.cluster.status.conditions, metadata.generation, now),
        allocation_state="Resizing" if replicas != counted or pool.booting or counts.leaving else "Steady",
        current_nodes=running if external else len(pool.nodes),
        target_nodes=running if external else replicas,
        nodes=counts,
        waiting_jobs=_waiting(assigned),
        problems=_problems(view, pool, made, now),
        intents=made.orders.intents if made.orders is not None else (),
        launches=made.orders.launches if made.orders is not None else 0,
        backoff=made.orders.backoff if made.orders is not None else (),
        learned=_learned(view, made, now),
        usage=view.cluster.status.usage,
        members=members(view, pool, made),
    )
    # Hours go on for ever: by themselves they are no reason for a write each second.
    if status == view.cluster.status and not _usage_is_old(view, made, now):
        return status
    return msgspec.structs.replace(status, usage=usage.shown(made.meter))


def _usage_is_old(view: ClusterView, made: Decision, now: float) -> bool:
    kept = view.cluster.status.usage
    told = times.seconds(kept.at) if kept is not None else None
    return told is None or (made.meter.rates.nodes > 0 and now >= told + usage.SHOWN_EVERY)


def _learned(view: ClusterView, made: Decision, now: float) -> LearnedIdle | None:
    if view.cluster.spec.idle_policy != "Learned":
        return None
    kept, rhythm = view.cluster.status.learned, made.rhythm
    at = times.seconds(kept.at) if kept is not None else None
    memory = learned.written(rhythm)
    if kept is not None and (memory == kept.memory or (at is not None and now < at + _LEARNED_SECONDS)):
        return kept
    return LearnedIdle(
        at=times.rfc3339(now),
        idle_seconds=round(made.idle_seconds),
        boot_seconds=round(learned.boot_seconds(rhythm)),
        pauses=rhythm.seen,
        memory=memory,
    )


def _facts(view: ClusterView) -> Mapping[str, Fact]:
    if view.cluster.metadata.deletion_timestamp is not None:
        jobs = len({(one.uid, one.attempt) for one in view.holdings if one.bound})
        machines = len(view.machines.machines) if view.machines is not None else 0
        words = f"no new job is given nodes; it waits for {jobs} jobs that have theirs and {machines} machines to end"
        return kstatus(False, "Deleting", words)
    if view.machines is not None:
        problem = view.machines.problem
        return kstatus(True, "Ready") if problem is None else kstatus(False, *problem)
    if view.rooms is not None and view.rooms.problem is not None:
        return kstatus(False, *view.rooms.problem)
    if view.cluster.spec.provider.type != "Scale":
        return kstatus(True, "Ready")
    if view.scale is None:
        return kstatus(False, "ReadingReplicas", "the pool's scalable object is being read")
    if view.scale.problem is not None:
        return kstatus(False, *view.scale.problem)
    return kstatus(True, "Ready")


def _waiting(assigned: Assigned) -> dict[str, int]:
    counts = Counter(wait.reason for wait in assigned.waits.values())
    return dict(sorted(counts.most_common(_MOST_REASONS)))


def _problems(view: ClusterView, pool: Pool, made: Decision, now: float) -> tuple[Problem, ...]:
    """The oldest problems; `since` stays while a problem does."""
    found = [node.problem for node in pool.nodes.values() if node.problem is not None]
    found += _of_machines(view, pool, made)
    found += [made.sizing.halted] if made.sizing.halted is not None else []
    if (told := usage.used_up(view.cluster, made.meter)) is not None:
        found.append(told)
    if view.scale is not None and view.scale.problem is not None:
        found.insert(0, view.scale.problem)
    if view.rooms is not None and view.rooms.problem is not None:
        found.insert(0, view.rooms.problem)
    if view.scale is not None and view.scale.rollout:
        found.append(("RolloutUnderWay", view.scale.rollout))
    for name, node in pool.nodes.items():
        kind = kind_of(node.node, view.cluster)
        lacking = shortfall(node.node, kind) if kind and node.state in ("Idle", "Running") else ""
        if kind and lacking and node.problem is None:
            words = f"node {name} offers less than type {kind.name} promises: {lacking}; lower the type's resources"
            found.append(("InstanceTypeOverstated", words))
    former = {(problem.reason, problem.message): problem.since for problem in view.cluster.status.problems}
    problems = [
        Problem(
            reason=reason, message=message[:1024],
            since=former.get((reason, message[:1024])) or times.rfc3339(now),
        )
        for reason, message in dict.fromkeys(found)
    ]  # fmt: skip
    return tuple(sorted(problems, key=lambda problem: (problem.since, problem.message))[:_MOST_PROBLEMS])


def _of_machines(view: ClusterView, pool: Pool, made: Decision) -> list[tuple[str, str]]:
    """What is wrong with a pool of machines beside its nodes."""
    if view.machines is None or made.orders is None:
        return []
    found = [view.machines.problem] if view.machines.problem is not None else []
    found += view.machines.warnings
    for entry in made.orders.backoff:
        wait = wait_for(entry, view.cluster.metadata.name)
        found.append((wait.reason, f"{entry.instance_type} ({entry.tier}): {entry.code}: {entry.message}; {wait.fix}"))
    patience = view.cluster.spec.scale_up.ready_seconds
    found += [
        ("MachineNeverJoined", f"machine {one.id} was no node after {patience} s and is ended; see its boot log")
        for one in pool.astray
    ]
    return found
