"""Keeps the ServiceAccounts through which people's clients are known to the server, in every namespace with jobs.

They have no rights of their own; who may ask for a token of which is said by the chart's roles.
"""

import asyncio
import logging

from stoker.api.kube import ObjectMeta
from stoker.controller.gate import Gate
from stoker.controller.keeping import keep
from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError, NotFound, Rejected
from stoker.kube.resources import SERVICE_ACCOUNTS
from stoker.kube.store import Store

LOG = logging.getLogger(__name__)

ACCOUNTS = ("stoker-editor", "stoker-viewer")
MANAGED_BY = {"app.kubernetes.io/managed-by": "stoker"}
_SELECTOR = "app.kubernetes.io/managed-by=stoker"
#: After a failure it is tried again so much later.
AGAIN_SECONDS = 10.0


class Accounts:
    """namespaces: those with jobs; empty means all but Kubernetes' own (kube-*), which the store knows."""

    def __init__(self, client: KubeClient, store: Store, namespaces: tuple[str, ...], gate: Gate) -> None:
        self._client = client
        self._store = store
        self._namespaces = namespaces
        self._gate = gate
        self._wanted: set[str] = set()
        self._alarm = asyncio.Event()
        store.listen(self._changed)

    def _changed(self, kind: str, old: object, new: object) -> None:
        if kind == "Namespace" and old is None:
            self._alarm.set()

    async def run(self) -> None:
        """Look at once, whenever a namespace comes, and every ten minutes; for ever."""
        await keep(self._gate, self._alarm, self._keep, AGAIN_SECONDS)

    async def _keep(self) -> bool:
        """Make what is missing; False when some could not be made."""
        try:
            present = await self._present()
        except KubeError as error:
            LOG.warning("cannot list ServiceAccounts: %s", error)
            return False
        whole = True
        for namespace in self._with_jobs():
            for account in ACCOUNTS:
                if (namespace, account) not in present:
                    whole = await self._make(namespace, account) and whole
        return whole

    async def _present(self) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for namespace in self._namespaces or ("",):
            listing = await self._client.list(
                SERVICE_ACCOUNTS.path(namespace), SERVICE_ACCOUNTS.shape, label_selector=_SELECTOR
            )
            found |= {(item.metadata.namespace, item.metadata.name) for item in listing.items}
        return found

    def _with_jobs(self) -> list[str]:
        if self._namespaces:
            return list(self._namespaces)
        metas: list[ObjectMeta] = [namespace.metadata for namespace in self._store.all("Namespace")]
        return [meta.name for meta in metas if not meta.name.startswith("kube-") and not meta.deletion_timestamp]

    async def _make(self, namespace: str, account: str) -> bool:
        body = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": namespace, "labels": MANAGED_BY},
            # Nothing runs as them: their tokens are asked for by people, for the server alone.
            "automountServiceAccountToken": False,
        }
        try:
            await self._client.apply(SERVICE_ACCOUNTS.path(namespace, account), body)
        except NotFound:
            return True  # the namespace has gone
        except Rejected as error:
            if "being terminated" in error.message:
                return True
            LOG.warning("cannot make ServiceAccount %s in %s: %s", account, namespace, error)
            return False
        except KubeError as error:
            LOG.warning("cannot make ServiceAccount %s in %s: %s", account, namespace, error)
            return False
        return True
