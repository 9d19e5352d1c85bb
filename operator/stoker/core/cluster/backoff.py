"""Kinds of machines that could not be had: since when, why in the provider's words, and when they are tried again."""

import hashlib
from collections.abc import Iterable

from stoker.api.computecluster import Backoff, InstanceType, Intent
from stoker.core import times
from stoker.core.cluster.machines import LaunchFailure, LaunchFault
from stoker.core.cluster.view import Wait

#: The first wait and the longest, in seconds; each further failure in a row doubles it. What passes by itself in moments
#: is tried again sooner.
FIRST, LONGEST = 30.0, 1800.0
SOON_FIRST, SOON_LONGEST = 5.0, 300.0
#: How long after its moment a back-off is forgotten when nobody asked again, in seconds.
FORGOTTEN = 3600.0

#: What the fault is called where it keeps a job waiting, and what a person can do.
_REASONS: dict[LaunchFault, tuple[str, str]] = {
    "Capacity": (
        "CapacityUnavailable",
        "wait, or add another instance type or spec.fallback to ComputeCluster/{name}",
    ),
    "Quota": (
        "ProviderQuotaExceeded",
        "ask the provider for a higher quota, or lower spec.maxInstances of ComputeCluster/{name}",
    ),
    "Throttled": ("ProviderThrottled", "wait; it is asked again by itself"),
    "Auth": (
        "CredentialsRefused",
        "give the operator the permission that the message names; it is asked again by itself",
    ),
    "Config": ("InstanceTypeRefused", "mend spec.instanceTypes or spec.provider of ComputeCluster/{name}"),
    "Transient": ("ProviderUnavailable", "wait; it is asked again by itself"),
}


def standing(entries: Iterable[Backoff], kind: InstanceType, now: float) -> Backoff | None:
    """The back-off that forbids to ask for this type now."""
    found = (one for one in entries if one.instance_type == kind.name and one.tier == kind.tier)
    return next((one for one in found if (times.seconds(one.until) or 0.0) > now), None)


def failed(entries: Iterable[Backoff], intent: Intent, failure: LaunchFailure) -> tuple[Backoff, ...]:
    """After a launch of this kind failed."""
    own = next((one for one in entries if _same(one, intent)), None)
    attempts = (own.attempts if own is not None else 0) + 1
    soon = failure.fault in ("Throttled", "Transient")
    first, longest = (SOON_FIRST, SOON_LONGEST) if soon else (FIRST, LONGEST)
    pause = min(first * 2 ** min(attempts - 1, 30), longest) * _jitter(failure.token)
    entry = Backoff(
        instance_type=intent.instance_type, tier=intent.tier, zone=intent.zone,
        until=times.rfc3339(failure.at + pause), attempts=attempts, fault=failure.fault,
        code=failure.code[:128], message=failure.message[:1024],
    )  # fmt: skip
    return (*(one for one in entries if not _same(one, intent)), entry)


def succeeded(entries: Iterable[Backoff], intent: Intent) -> tuple[Backoff, ...]:
    """After a launch of this kind came."""
    return tuple(one for one in entries if not _same(one, intent))


def still_known(entries: Iterable[Backoff], now: float) -> tuple[Backoff, ...]:
    """Those whose failures still count."""
    return tuple(one for one in entries if now < (times.seconds(one.until) or 0.0) + FORGOTTEN)


def wait_for(entry: Backoff, cluster: str) -> Wait:
    """Why a gang has no machines of this kind."""
    reason, fix = next((told for fault, told in _REASONS.items() if fault == entry.fault), _REASONS["Transient"])
    tries = "1 try" if entry.attempts == 1 else f"{entry.attempts} tries"
    return Wait(
        reason,
        f"the provider of {cluster} gives no {entry.instance_type} ({entry.tier}) after {tries}: "
        f"{entry.code}: {entry.message}; next try {entry.until}",
        fix.format(name=cluster),
    )


def _same(entry: Backoff, intent: Intent) -> bool:
    return (entry.instance_type, entry.tier, entry.zone) == (intent.instance_type, intent.tier, intent.zone)


def _jitter(token: str) -> float:
    """Between 0.8 and 1.2, the same for the same launch: pools that failed together do not ask again together."""
    return 0.8 + 0.4 * int.from_bytes(hashlib.sha256(token.encode()).digest()[:2], "big") / 65535
