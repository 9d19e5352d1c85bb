"""What a whole pod asks of its node, as the scheduler reckons."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from stoker.core import units

Requests = dict[str, Fraction]


def of_pod(spec: Mapping[str, Any]) -> Requests:
    """The requests of a pod's spec: its containers and native sidecars together, or what an init container needs beside the
    sidecars before it, whichever is more; what the pod as a whole asks for instead, and its overhead.

    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    beside: Requests = {}
    most: Requests = {}
    for container in spec.get("initContainers") or ():
        asked = _requests(container)
        if container.get("restartPolicy") == "Always":
            beside = _sum((beside, asked))
            most = _most(most, beside)
        else:
            most = _most(most, _sum((beside, asked)))
    total = _most(most, _sum((beside, *map(_requests, spec.get("containers") or ()))))
    total |= _requests(spec)
    return _sum((total, amounts(spec.get("overhead"))))


def _requests(of: Mapping[str, Any]) -> Requests:
    return amounts((of.get("resources") or {}).get("requests"))


def amounts(written: Mapping[str, str] | None) -> Requests:
    """Quantities by resource."""
    return {name: units.parse(str(amount)) for name, amount in (written or {}).items()}


def _sum(parts: Iterable[Requests]) -> Requests:
    total: Requests = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, Fraction(0)) + amount
    return total


def _most(one: Requests, other: Requests) -> Requests:
    return {name: max(one.get(name, Fraction(0)), other.get(name, Fraction(0))) for name in (*one, *other)}
