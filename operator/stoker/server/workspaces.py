"""Where a namespace's runs are stored, and the store and signer for that place."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from stoker.api.workspace import Workspace
from stoker.core.claims import storage_claim
from stoker.kube.client import Listing
from stoker.kube.errors import KubeError
from stoker.kube.resources import WORKSPACES
from stoker.server.config import Settings
from stoker.server.errors import Refusal
from stoker.storage.objects import BadStoreUrl, ObjectStore, open_store
from stoker.storage.signing import Part, Signed, Signer

T = TypeVar("T")

#: How long the list of Workspaces counts (seconds); and how long an old one serves while the API server is away.
LIST_SECONDS, STALE_SECONDS = 10.0, 600.0
MOST_PLACES = 1000


class Signing(Protocol):
    """What the server needs of storage.signing.Signer."""

    def get(self, key: str, *, for_people: bool = False) -> Signed: ...
    def put(
        self,
        key: str,
        size: int,
        sha256: str,
        *,
        only_if_absent: bool = False,
        if_match: str = "",
        for_people: bool = False,
    ) -> Signed: ...
    def put_part(self, key: str, upload_id: str, number: int, size: int, sha256: str) -> Signed: ...
    def create_upload(self, key: str) -> str: ...
    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None: ...
    def abort_upload(self, key: str, upload_id: str) -> None: ...
    def checksum(self, key: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace's storage."""

    store: ObjectStore
    signer: Signing


class Lister(Protocol):
    async def list(self, path: str, shape: type[T], /) -> Listing[T]: ...


class Workspaces:
    """Storage by namespace and by URL. opener: makes the store and signer of a URL. now: monotonic seconds."""

    def __init__(
        self,
        kube: Lister,
        settings: Settings,
        opener: Callable[[str], Place] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._settings, self._now = kube, settings, now
        self._opener = opener or self._open
        self._listed: list[Workspace] | None = None
        self._listed_at = float("-inf")
        self._listing = asyncio.Lock()
        self._places: OrderedDict[str, Place] = OrderedDict()

    async def url(self, namespace: str) -> str:
        """The storage URL of a namespace. Raises Refusal 403 or 409, and KubeError when the API server is away."""
        if not self._settings.serves(namespace):
            raise Refusal(
                403,
                "NamespaceNotServed",
                f"Stoker does not serve namespace {namespace}; an admin adds it to jobNamespaces",
            )
        claim = storage_claim(namespace, await self._workspaces(), self._settings.storage_url)
        if claim.refused:
            raise Refusal(409, claim.reason, claim.message)
        return claim.url

    async def of(self, namespace: str) -> Place:
        """The storage of a namespace; raises as `url` does."""
        return self.at(await self.url(namespace))

    def at(self, url: str) -> Place:
        """The storage at a URL that a Workspace or a grant names."""
        place = self._places.get(url)
        if place is None:
            try:
                place = self._opener(url)
            except BadStoreUrl as error:
                raise Refusal(409, "StorageUrlInvalid", str(error)) from None
            self._places[url] = place
            while len(self._places) > MOST_PLACES:
                self._places.popitem(last=False)
        self._places.move_to_end(url)
        return place

    async def _workspaces(self) -> list[Workspace]:
        if self._listed is not None and self._now() - self._listed_at <= LIST_SECONDS:
            return self._listed
        async with self._listing:
            if self._listed is None or self._now() - self._listed_at > LIST_SECONDS:
                try:
                    self._listed = (await self._kube.list(WORKSPACES.path(), Workspace)).items
                    self._listed_at = self._now()
                except KubeError:
                    if self._listed is None or self._now() - self._listed_at > STALE_SECONDS:
                        raise
            return self._listed

    def _open(self, url: str) -> Place:
        options, endpoint = self._settings.options, self._settings.client_endpoint
        return Place(open_store(url, options), Signer(url, options, endpoint))
