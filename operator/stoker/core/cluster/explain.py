"""Why each node of a pool is still there, since when, and what happens to it next."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from stoker.api.computecluster import Member
from stoker.core import times
from stoker.core.cluster import pace, scrub, share
from stoker.core.cluster.assign import AHEAD, Key
from stoker.core.cluster.decide import Decision
from stoker.core.cluster.pool import Pool, PoolNode
from stoker.core.cluster.resize import LAST_LOOK_AFTER, going_nodes
from stoker.core.cluster.view import ClusterView
from stoker.core.plan import TaintLeaving

#: Nodes that a status shows.
MOST = 200


@dataclass(frozen=True, slots=True)
class Facts:
    """What the questions below look at. holders: who has or is given which node; crowd: how many, on a pool that jobs
    share. ahead: why jobs were given theirs before others. saved: for whom nodes are kept. spared: idle nodes that
    minInstances keeps."""

    view: ClusterView
    pool: Pool
    made: Decision
    holders: Mapping[str, str]
    ahead: Mapping[str, str]
    crowd: Mapping[str, int]
    saved: Mapping[str, Key]
    spared: frozenset[str]


@dataclass(frozen=True, slots=True)
class Why:
    """A reason, its words, since and until when (seconds since the epoch), and whose uid it is about."""

    reason: str
    message: str
    since: float | None = None
    until: float | None = None
    job: str = ""


Question = Callable[[Facts, PoolNode], Why | None]


def members(view: ClusterView, pool: Pool, made: Decision) -> tuple[Member, ...]:
    """The pool's nodes with their reasons, those without a job first. `since` stays as long as the reason does."""
    facts = _facts(view, pool, made)
    former = {(one.name, one.reason): one.since for one in view.cluster.status.members}
    now = made.meter.at
    found = []
    for node in sorted(pool.nodes.values(), key=lambda one: (one.state == "Running", one.name))[:MOST]:
        why = why_kept(facts, node)
        state = "Running" if node.name in facts.holders and node.state == "Idle" else node.state
        since = times.rfc3339(why.since) if why.since is not None else former.get((node.name, why.reason))
        found.append(
            Member(
                name=node.name, state=state, reason=why.reason, message=why.message[:512],
                since=since or times.rfc3339(now), until=times.rfc3339(why.until), job=why.job,
            )
        )  # fmt: skip
    return tuple(found)


def why_kept(facts: Facts, node: PoolNode) -> Why:
    """The first question that has an answer: what somebody decided comes before what only time decides."""
    return next(why for question in _QUESTIONS if (why := question(facts, node)) is not None)


def _facts(view: ClusterView, pool: Pool, made: Decision) -> Facts:
    holders = {name: one.uid for one in view.holdings for name in one.nodes}
    crowd = Counter[str]()
    if share.is_allowed(view.cluster):
        held = [one.nodes for one in view.holdings if one.bound]
        crowd.update(name for nodes in (*held, *made.assigned.nodes.values()) for name in nodes)
    holders |= {name: uid for (uid, _), nodes in made.assigned.nodes.items() for name in nodes}
    ahead = {one.uid: one.ahead for one in view.holdings if one.ahead}
    ahead |= {uid: words for (uid, _), words in made.assigned.ahead.items()}
    saved = {name: key for key, nodes in made.assigned.saved.items() for name in nodes}
    # Those that would go if their time were over: of the others, minInstances keeps some.
    free = [node for node in pool.nodes.values() if node.state == "Idle" and not node.counted_out]
    forever = going_nodes(view, pool, free, float("-inf"), made.meter.at)
    return Facts(
        view, pool, made, holders, ahead, crowd, saved, frozenset(node.name for node in free) - frozenset(forever)
    )


def _going(facts: Facts, node: PoolNode) -> Why | None:
    if not node.counted_out:
        return None
    return Why("Leaving", "its end was ordered; it goes when the provider has ended it", node.leaving_since)


def _preempted(facts: Facts, node: PoolNode) -> Why | None:
    if node.state != "Preempted":
        return None
    return Why(
        "Preempted",
        "it is taken back, by its provider or for spec.maxInstances; it gets no job",
        job=facts.holders.get(node.name, ""),
    )


def _has_job(facts: Facts, node: PoolNode) -> Why | None:
    uid = facts.holders.get(node.name)
    if uid is None or node.state in ("Unusable", "Preparing"):
        return None
    if (ahead := facts.ahead.get(uid)) is not None:
        return Why(AHEAD, f"a job has it: {ahead}", job=uid)
    if facts.crowd[node.name] > 1:
        words = f"{facts.crowd[node.name]} jobs share it; it falls free when the pods of all of them have gone"
        return Why("HasJob", words, job=uid)
    return Why("HasJob", "a job has it; it falls free when the job's pods have gone", job=uid)


def _scrubbed(facts: Facts, node: PoolNode) -> Why | None:
    if node.state != "Preparing" or node.dirty is None:
        return None
    words = (
        f"what its last job left in {scrub.path_of(facts.view.cluster)} is removed; it gets a job once that is empty"
    )
    return Why("Scrubbing", words)


def _booting(facts: Facts, node: PoolNode) -> Why | None:
    if node.state != "Preparing":
        return None
    words = "it boots, or shows its devices late; past that time it counts as unusable"
    return Why("Booting", words, until=node.ready_by)


def _unusable(facts: Facts, node: PoolNode) -> Why | None:
    if node.problem is None or node.state != "Unusable":
        return None
    reason, message = node.problem
    return Why(reason, message, node.free_since, _end_of_idle(facts, node))


def _promised(facts: Facts, node: PoolNode) -> Why | None:
    if node.name not in facts.made.assigned.needed:
        return None
    return Why("PromisedToGang", "it waits for the other nodes of a gang, which are being brought")


def _saved(facts: Facts, node: PoolNode) -> Why | None:
    key = facts.saved.get(node.name)
    since = facts.made.kept_since.get(key) if key is not None else None
    if key is None or since is None:
        return None
    until = since + facts.view.cluster.spec.scale_up.partial_hold_seconds
    if facts.made.meter.at >= until:
        return None
    words = "it is kept for a gang whose other nodes have jobs or cannot be had; then it goes like any idle node"
    return Why("KeptForGang", words, since, until, key[0])


def _last_look(facts: Facts, node: PoolNode) -> Why | None:
    if node.leaving_since is None:
        return None
    words = "its idle time is over; it goes if no pod has landed on it by then"
    return Why("LastLook", words, node.leaving_since, node.leaving_since + LAST_LOOK_AFTER)


def _never_removed(facts: Facts, node: PoolNode) -> Why | None:
    if facts.view.machines is not None or facts.view.cluster.spec.provider.type == "Scale":
        return None
    return Why("NeverRemoved", "the pool neither brings nor removes nodes", node.free_since)


def _has_others(facts: Facts, node: PoolNode) -> Why | None:
    if node.name not in facts.view.occupied:
        return None
    return Why("HasPodsOfOthers", "pods that are no DaemonSet's run there; it goes when they have ended")


def _halted(facts: Facts, node: PoolNode) -> Why | None:
    halted = facts.made.sizing.halted
    return Why("RemovalHalted", halted[1]) if halted is not None else None


def _unknown(facts: Facts, node: PoolNode) -> Why | None:
    view = facts.view
    problem = view.machines.problem if view.machines is not None else view.scale.problem if view.scale else None
    return (
        Why("ProviderUnknown", f"nothing is removed while the pool cannot be seen: {problem[1]}") if problem else None
    )


def _warm(facts: Facts, node: PoolNode) -> Why | None:
    if node.name not in facts.made.warm:
        return None
    if facts.view.cluster.spec.warm is None:
        return Why("KeptForBurst", "jobs come one after the other; it is kept ready for the next", node.free_since)
    return Why("KeptWarm", "spec.warm keeps it ready for a job to come", node.free_since)


def _least(facts: Facts, node: PoolNode) -> Why | None:
    if node.name not in facts.spared:
        return None
    return Why("KeptForMinInstances", "spec.minInstances keeps it", node.free_since)


def _paced(facts: Facts, node: PoolNode) -> Why | None:
    """Its time is over, and spec.scaleDown keeps it."""
    now, over = facts.made.meter.at, _end_of_idle(facts, node)
    if over is None or now < over:
        return None
    until = pace.not_before(facts.view, facts.pool)
    if until is not None and now < until:
        words = "a node was added lately: spec.scaleDown.delayAfterAddSeconds keeps all of them until then"
        return Why("GrewLately", words, node.free_since, until)
    most = pace.most_at_a_time(facts.view)
    if most is None or any(
        isinstance(one, TaintLeaving) and one.node == node.name for one in facts.made.sizing.actions
    ):
        return None
    words = f"as many nodes leave as spec.scaleDown.maxParallel allows at a time ({most}); it goes after them"
    return Why("OthersLeaveFirst", words, node.free_since)


def _idle(facts: Facts, node: PoolNode) -> Why | None:
    return Why("IdleTime", "it is idle; it goes then unless a job takes it", node.free_since, _end_of_idle(facts, node))


def _end_of_idle(facts: Facts, node: PoolNode) -> float | None:
    if facts.view.machines is None and facts.view.cluster.spec.provider.type != "Scale":
        return None
    return node.free_since + facts.made.idle_seconds if node.free_since is not None else None


_QUESTIONS: Iterable[Question] = (
    _going,
    _preempted,
    _has_job,
    _scrubbed,
    _booting,
    _promised,
    _saved,
    _has_others,
    _unknown,
    _halted,
    _unusable,
    _last_look,
    _never_removed,
    _warm,
    _least,
    _paced,
    _idle,
)
