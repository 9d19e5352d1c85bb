"""Scratch claims and salvage Jobs of a run: which of them stay, and which go now.

A claim goes once its attempt is closed or the run has ended, whoever sealed its rank. The claim of a rank that was closed
here although something may be on it stays, and status names it. That is read off the seal, so it comes out the same after
a restart. Kubernetes keeps a deleted claim for as long as there is a pod that names it, be it one that ended long ago: so
the child goes too, and does not wait for its time to live.
"""

from dataclasses import replace

from stoker.api.trainingjob import KeptClaim
from stoker.core.plan import Action, Delete
from stoker.core.trainingjob import remains
from stoker.core.trainingjob.attempts import Rank, attempt_of
from stoker.core.trainingjob.seen import Seen
from stoker.core.trainingjob.steps import Step

#: How many kept claims status has room for; see KeptClaim.
MOST_KEPT = 100


def with_cleaning(seen: Seen, step: Step) -> Step:
    """A step, with what keeps the open attempt's claims before it, and after it what takes away those of closed ones."""
    adopted = () if seen.finished or seen.attempt is None else remains.adoptions(seen.view, seen.attempt.number)
    cleaning = _cleaning(seen)
    if not adopted and not cleaning:
        return step
    return replace(step, actions=(*adopted, *step.actions, *cleaning))


def kept_claims(seen: Seen) -> tuple[KeptClaim, ...]:
    """Claims that stay although their rank is closed; those that somebody deleted are forgotten."""
    there = {claim.metadata.name for claim in remains.own_claims(seen.view)}
    kept = {claim.name: claim for claim in seen.view.job.status.kept_claims if claim.name in there}
    attempt = seen.attempt
    for rank in attempt.ranks if attempt is not None else ():
        if rank.remains is not None and _given_up(rank):
            name = rank.remains.claim.metadata.name
            message = str((rank.seal or {}).get("message") or "")[:2048]
            kept[name] = KeptClaim(
                name=name, attempt=attempt.number if attempt else 0, rank=rank.number, message=message
            )
    return tuple(kept.values())[:MOST_KEPT]


def _given_up(rank: Rank) -> bool:
    """Whether a rank was sealed here, in the place of its pod and of its salvage."""
    return rank.seal is not None and rank.seal.get("sealedBy") == "operator"


def _cleaning(seen: Seen) -> tuple[Action, ...]:
    """What nothing can be saved from or by any more."""
    view, kept = seen.view, {claim.name for claim in seen.view.job.status.kept_claims}
    going = [
        claim
        for claim in remains.own_claims(view, going=True)
        if claim.metadata.name not in kept and _is_closed(seen, remains.attempt_of(claim))
    ]
    emptied = {remains.attempt_of(claim) for claim in going}
    users = [
        *(child for child in view.children if attempt_of(child.metadata.labels) in emptied),
        *(
            job
            for job in view.salvages
            if remains.salvaged_attempt(job) in emptied
            or (not remains.ended(job) and _is_closed(seen, remains.salvaged_attempt(job)))
        ),
    ]
    standing = [("PersistentVolumeClaim", claim.metadata) for claim in going] + [("Job", job.metadata) for job in users]
    return tuple(
        Delete(kind, metadata.namespace, metadata.name, metadata.uid)
        for kind, metadata in standing
        if metadata.deletion_timestamp is None
    )


def _is_closed(seen: Seen, attempt: int) -> bool:
    """Whether status says that an attempt is over."""
    return seen.finished or (seen.last_closed is not None and attempt <= seen.last_closed.number)
