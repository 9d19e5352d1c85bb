"""Which storage URL a namespace has: its Workspace's, else the chart's and the namespace's name below it.

No two namespaces may share a place, for whoever may read and write one namespace's runs would then have the other's
too. A URL overlaps another when either lies below the other. The chart's URL belongs to nobody but, folder by folder,
to the namespaces of those names, whether they exist yet or not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from stoker.api.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Claim:
    """The storage URL of a namespace, without a `/` at its end; or why it has none: reason, message and fix."""

    url: str = ""
    reason: str = ""
    message: str = ""

    @property
    def refused(self) -> bool:
        return bool(self.reason)


def storage_claim(namespace: str, workspaces: Iterable[Workspace], chart_url: str) -> Claim:
    """What a namespace's storage URL is. workspaces: those of every namespace. chart_url: empty when the chart has none.

    Of two Workspaces that overlap, the older keeps its place (then the one whose namespace sorts first).
    """
    everyone = [workspace for workspace in workspaces if workspace.spec.storage is not None]
    own = next((one for one in everyone if one.metadata.namespace == namespace), None)
    if own is None:
        return _default(namespace, everyone, chart_url)
    url = _normal(_url(own))
    if _splits(url) is None:
        return Claim(
            reason="StorageUrlInvalid",
            message=f"Workspace/default: spec.storage.url: {_url(own)!r} is not s3://bucket/prefix",
        )
    if chart_url and _overlap(url, chart_url) and not _below(url, f"{_normal(chart_url)}/{namespace}"):
        return _taken(_url(own), "the chart's storage, where each namespace has the folder of its name")
    for other in everyone:
        if other.metadata.namespace != namespace and _overlap(url, _url(other)) and _age(other) < _age(own):
            return _taken(_url(own), f"the storage of namespace {other.metadata.namespace}")
    return Claim(url)


def _default(namespace: str, everyone: Iterable[Workspace], chart_url: str) -> Claim:
    # Nobody can take this place away: a Workspace of another namespace that overlaps it is refused itself.
    if not chart_url:
        return Claim(
            reason="StorageNotConfigured",
            message=f"namespace {namespace} has no storage: make a Workspace named default with spec.storage.url, "
            "or install the chart with storage.url",
        )
    return Claim(f"{_normal(chart_url)}/{namespace}")


def _taken(url: str, whose: str) -> Claim:
    return Claim(
        reason="StorageUrlTaken",
        message=f"Workspace/default: spec.storage.url: {url!r} overlaps {whose}; choose a prefix of your own",
    )


def _url(workspace: Workspace) -> str:
    return workspace.spec.storage.url if workspace.spec.storage is not None else ""


def _age(workspace: Workspace) -> tuple[str, str]:
    """RFC 3339 in UTC sorts by time."""
    return (workspace.metadata.creation_timestamp, workspace.metadata.namespace)


def _splits(url: str) -> tuple[str, ...] | None:
    """Scheme, bucket and the parts of the prefix; None for what names no place, or one in more than one way."""
    pieces = urlsplit(url)
    parts = tuple(part for part in pieces.path.split("/") if part)
    if not pieces.scheme or any(part in (".", "..") for part in parts) or pieces.query or pieces.fragment:
        return None
    if pieces.scheme != "file" and (not pieces.netloc or "@" in pieces.netloc):
        return None
    return (pieces.scheme, pieces.netloc, *parts)


def _normal(url: str) -> str:
    return url.rstrip("/")


def _below(url: str, folder: str) -> bool:
    inner, outer = _splits(url), _splits(folder)
    return inner is not None and outer is not None and inner[: len(outer)] == outer


def _overlap(one: str, other: str) -> bool:
    return _below(one, other) or _below(other, one)
