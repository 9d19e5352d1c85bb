"""What the client reads around the objects themselves: pages, watch events, reviews."""

from typing import Generic, TypeVar

import msgspec

from stoker.api.kube import Lean

T = TypeVar("T")


class ListMeta(Lean, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, Generic[T], gc=False):
    metadata: ListMeta
    items: list[T] | None = None


class Listing(msgspec.Struct, Generic[T]):
    """A whole list, of one moment: `resource_version` is where a watch goes on from."""

    items: list[T]
    resource_version: str


class WatchEvent(msgspec.Struct, Generic[T], gc=False):
    """type: ADDED, MODIFIED, DELETED, or BOOKMARK (object is None). version: the resourceVersion it brings us to."""

    type: str
    version: str
    object: T | None = None


class Line(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class VersionMeta(Lean, frozen=True):
    resource_version: str = ""


class Versioned(Lean, frozen=True):
    metadata: VersionMeta = VersionMeta()


class Status(Lean, frozen=True):
    reason: str = ""
    message: str = ""
    code: int = 0


class LeaseSpec(Lean, frozen=True):
    """Members that nobody has written yet may be null. lease_duration_seconds: whole seconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None


class LeaseObject(Lean, frozen=True):
    metadata: VersionMeta = VersionMeta()
    spec: LeaseSpec = LeaseSpec()


class ReviewedUser(Lean, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


class TokenReviewStatus(Lean, frozen=True):
    """What the API server says of a token. audiences: those of the asked ones that the token is for."""

    authenticated: bool = False
    user: ReviewedUser = ReviewedUser()
    audiences: tuple[str, ...] = ()
    error: str = ""


class TokenReview(Lean, frozen=True):
    status: TokenReviewStatus = TokenReviewStatus()


class AccessReviewStatus(Lean, frozen=True):
    """What the API server says of a SubjectAccessReview. reason: why, in its words; mostly empty."""

    allowed: bool = False
    reason: str = ""


class AccessReview(Lean, frozen=True):
    status: AccessReviewStatus = AccessReviewStatus()
