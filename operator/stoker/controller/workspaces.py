"""Each namespace's settings and its object store."""

from dataclasses import replace

from stoker.api.workspace import Defaults, Workspace, WorkspaceSpec
from stoker.controller.config import Config
from stoker.controller.gate import Gate
from stoker.controller.gated_store import GatedStore
from stoker.controller.means import means_of
from stoker.core.claims import storage_claim
from stoker.core.trainingjob.view import WorkspaceView
from stoker.kube.store import Store
from stoker.storage.objects import BadStoreUrl, ObjectStore, StoreOptions, open_store


class Workspaces:
    """Settings by namespace: those of its Workspace, with the chart's where it says nothing. options: how every store is
    reached."""

    def __init__(self, store: Store, config: Config, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self._config = config
        self.options = replace(StoreOptions.from_env(), endpoint=config.storage_endpoint, region=config.storage_region)
        self._opened: dict[str, ObjectStore] = {}
        self._views: dict[str, WorkspaceView] = {}
        store.listen(self._changed)

    def _changed(self, kind: str, old: object, new: object) -> None:
        if kind == "Workspace":
            # One namespace's claim may change what another may have.
            self._views.clear()

    def view(self, namespace: str) -> WorkspaceView:
        """What a namespace's jobs are planned with."""
        found = self._views.get(namespace)
        if found is None:
            found = self._views[namespace] = self._view(namespace)
        return found

    def _view(self, namespace: str) -> WorkspaceView:
        workspace: Workspace | None = self._store.get("Workspace", namespace, "default")
        spec = workspace.spec if workspace is not None else None
        own = spec.defaults if spec is not None else Defaults()
        config = self._config
        defaults = Defaults(
            compute=own.compute or config.default_compute,
            image=own.image or config.default_image,
            timeout_seconds=own.timeout_seconds or config.default_timeout_seconds,
            queue_name=own.queue_name,
        )
        claim = storage_claim(namespace, self._store.all("Workspace"), config.storage_url)
        return WorkspaceView(
            storage_url=claim.url,
            defaults=defaults,
            image_pull_secrets=tuple(secret.name for secret in spec.image_pull_secrets) if spec is not None else (),
            means=means_of(namespace, spec or WorkspaceSpec(), config),
            problem=(claim.reason, claim.message) if claim.refused else None,
        )

    def open(self, namespace: str) -> ObjectStore:
        """The namespace's object store; raises BadStoreUrl with the claim's message when it has none."""
        view = self.view(namespace)
        if view.problem is not None:
            raise BadStoreUrl(view.problem[1])
        store = self._opened.get(view.storage_url)
        if store is None:
            opened = open_store(view.storage_url, self.options)
            store = self._opened[view.storage_url] = GatedStore(opened, self._gate)
        return store
