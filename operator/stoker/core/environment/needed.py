"""Who needs which image: the keys and digests that objects and stored runs name, and who may be about to use one.

Everything with 64 hex digits in an object counts as named: too much does no harm. Objects are plain, as the API server
sends them.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from stoker.api.names import FINISHED, LABEL_BUILD
from stoker.core.environment.cleaning import Needs

Plain = Mapping[str, Any]

#: Kinds whose objects name images, each with its API path in all namespaces.
KINDS = {
    "TrainingJob": "/apis/stoker.dev/v1alpha1/trainingjobs",
    "Environment": "/apis/stoker.dev/v1alpha1/environments",
    "Job": "/apis/batch/v1/jobs",
    "Pod": "/api/v1/pods",
}
_HEX64 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def needs_of(
    objects: Mapping[str, Iterable[Plain]], runs: Mapping[str, Iterable[str]], namespaces: Collection[str]
) -> Needs:
    """objects: kind -> its objects, whole. runs: key of a stored run -> what its record names, in hex. namespaces: which look
    images up in the registry, so that it matters whether their objects are settled."""
    named = {word: f"run {key}" for key, words in sorted(runs.items()) for word in words}
    unsettled: list[str] = []
    for kind in reversed(KINDS):  # what a person made is told before what was made of it
        for one in objects.get(kind, ()):
            title = f"{kind} {one['metadata']['namespace']}/{one['metadata']['name']}"
            named |= dict.fromkeys(words_in(json.dumps(one)), title)
            looks = one["metadata"]["namespace"] in namespaces
            if looks and (why := _why_unsettled(kind, one)) is not None:
                unsettled.append(f"{title} {why}")
    return Needs(named, tuple(sorted(unsettled)))


def words_in(text: str) -> frozenset[str]:
    """Every key and digest in a text, in hex."""
    return frozenset(_HEX64.findall(text))


def _why_unsettled(kind: str, one: Plain) -> str | None:
    """Why it is not known yet which image an object will use; None where that is known, or where it will not use one before
    it has looked again."""
    status: Plain = one.get("status") or {}
    if kind == "Job":
        is_build = LABEL_BUILD in (one["metadata"].get("labels") or {})
        return "builds an image" if is_build and not _has(status, "Complete", "Failed") else None
    if kind == "TrainingJob":
        if status.get("phase") in FINISHED or one["spec"].get("suspend") or _has(status, "Stalled"):
            return None
        told = status.get("environment") or {}
        return None if told.get("image") or told.get("specKey") else "has not said yet which image it uses"
    if kind == "Environment":
        current = status.get("observedGeneration") == one["metadata"].get("generation")
        if current and (_has(status, "Ready", "Stalled") or any(image.get("specKey") for image in _images(status))):
            return None
        return "has not said yet which image it is"
    return None


def _has(status: Plain, *kinds: str) -> bool:
    """Whether one of these conditions is True."""
    return any(one.get("type") in kinds and one.get("status") == "True" for one in status.get("conditions") or ())


def _images(status: Plain) -> Iterable[Plain]:
    images: Iterable[Plain] = status.get("images") or ()
    return images
