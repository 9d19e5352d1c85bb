"""Takes out of a namespace's registry what its spec.retention.environmentDays does not keep, as `stoker env gc` does for people."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stoker.controller.config import Config
from stoker.controller.gate import Gate, check
from stoker.controller.pull_secrets import PullSecrets
from stoker.controller.registries import Registries
from stoker.controller.workspaces import Workspaces
from stoker.core.environment.cleaning import DAY, Report, Verdict
from stoker.core.environment.means import Means
from stoker.core.environment.needed import KINDS, Plain
from stoker.core.plan import Answer, Found, Refused, RegistryPlace, Unavailable
from stoker.images.auth import BadCredentials
from stoker.images.cleaning import Cleaning
from stoker.images.errors import DeletionDisabled, RegistryError, Unauthorized
from stoker.kube.client import KubeClient, Listing
from stoker.kube.errors import KubeError
from stoker.kube.store import Store
from stoker.storage.objects import BadStoreUrl, ObjectStore, StoreError

LOG = logging.getLogger(__name__)

#: Kinds whose objects tell which namespaces there are.
_OURS = ("Workspace", "TrainingJob", "Environment")
#: What could not be done is tried again after so long, in seconds.
AGAIN_SECONDS = 600.0

#: What there is to do about an image that may not go now.
_BY_ITSELF = "wait: it is looked at again by itself; `stoker env gc --dry-run` shows what would go"


class ImageRetention:
    """clock: seconds since the epoch."""

    def __init__(
        self, client: KubeClient, store: Store, workspaces: Workspaces, registries: Registries, pull_secrets: PullSecrets,
        config: Config, gate: Gate, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._client = client
        self._store = store
        self._workspaces = workspaces
        self._registries = registries
        self._pull_secrets = pull_secrets
        self._config = config
        self._gate = gate
        self._clock = clock

    async def clean(self, namespace: str, days: float) -> Answer:
        """Remove what goes. Answer: a Report; Refused and Unavailable where nothing, or not all, could be. Raises NotLeading."""
        again = self._clock() + AGAIN_SECONDS
        place = self._workspaces.view(namespace).means.registry
        if place is None:
            return Refused("NoRegistry", f"namespace {namespace} has no registry", "set spec.registry.url", again)
        if any(one.url.rstrip("/") == place.url for one in self._config.global_registries):
            words = f"the chart has {place.url} among its globalRegistries, so every namespace may run its images"
            return Refused("SharedByAll", words, "take it out of there, or leave environmentDays out", again)
        try:
            return await self._clean(namespace, place, days)
        except StoreError as error:
            fix = "see whether the object stores answer and what their credentials allow"
            return Unavailable("StorageUnavailable", f"nothing more is removed: {error}", fix, again)
        except KubeError as error:
            words = f"nothing more is removed while it is not known who needs what: {error}"
            return Unavailable("ApiServerUnavailable", words, "see whether the API server answers", again)
        except (DeletionDisabled, Unauthorized) as error:
            return Refused("DeletionRefused", str(error), error.fix, again)
        except (RegistryError, BadCredentials) as error:
            return Unavailable(
                "RegistryUnavailable", f"nothing more is removed: {error}", "see what the registry says", again
            )

    async def _clean(self, namespace: str, place: RegistryPlace, days: float) -> Answer:
        keyring = await self._pull_secrets.keyring(namespace, (place.secret,) if place.secret else ())
        stores = {one: self._open(one) for one in (namespace, *self._sharers(namespace, place))}
        cleaning = Cleaning(
            self._registries.client(place, keyring), place.url, self._objects, stores, days * DAY, self._clock
        )
        look = await cleaning.look()
        plan = await cleaning.plan(look)
        if plan.held:
            return self._held(plan.held)
        if plan.marks:
            await cleaning.mark(plan)

        def told(one: Verdict, why: str) -> None:
            what = ", ".join(one.tags) or one.digests[-1]
            if why:
                LOG.info("retention: %s of %s stays after all: %s", what, place.url, why)
            else:
                LOG.info("retention: removed %s of %s, %d bytes: %s", what, place.url, one.size, one.reason)

        done = await cleaning.remove(look, plan, told)
        if done.held:
            return self._held(done.held)
        images = [tag for one in done.removed if one.kind == "image" for tag in one.tags if tag.startswith("lock-")]
        return Found(Report(self._clock(), tuple(images), len(done.removed), plan.size if not done.stays else 0))

    def _held(self, why: str) -> Unavailable:
        return Unavailable("Held", f"nothing more is removed: {why}", _BY_ITSELF, self._clock() + AGAIN_SECONDS)

    def _open(self, namespace: str) -> ObjectStore:
        """Raises BadStoreUrl where a namespace has no store, so that what its runs need is not known."""
        try:
            return self._workspaces.open(namespace)
        except BadStoreUrl as error:
            raise BadStoreUrl(f"what the runs of namespace {namespace} need is not known: {error}") from error

    def _sharers(self, namespace: str, place: RegistryPlace) -> list[str]:
        """The other namespaces that push to a registry, or run what is in it."""

        def uses(means: Means) -> bool:
            return any(one.url == place.url for one in means.places)

        known = {one.metadata.namespace for kind in _OURS for one in self._store.all(kind)}
        # Whose name the registry has by default may have runs there, and no object any more.
        parent, _, name = place.url.rpartition("/")
        known |= {name} if self._config.registry_url and parent == self._config.registry_url else set()
        return sorted(one for one in known - {namespace} if uses(self._workspaces.view(one).means))

    async def _objects(self) -> Mapping[str, Sequence[Plain]]:
        """From the API server itself: what is watched may lag."""
        # Asked right before each deletion, which only the leader may do.
        check(self._gate)
        found: dict[str, list[Plain]] = {}
        for kind, path in KINDS.items():
            group, _, plural = path.rpartition("/")
            spaces = self._config.job_namespaces
            paths = [f"{group}/namespaces/{one}/{plural}" for one in spaces] if spaces else [path]
            found[kind] = []
            for each in paths:
                listing: Listing[dict[str, Any]] = await self._client.list(each)
                found[kind] += listing.items
        return found
