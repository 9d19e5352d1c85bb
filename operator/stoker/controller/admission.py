"""Stoker as the controller of AdmissionChecks of Kueue's: it keeps its own active, and writes its answers."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from stoker.api.kueue import CHECK_CONTROLLER, POD_SET, AdmissionCheck
from stoker.controller.gate import Gate, NotLeading
from stoker.controller.keeping import keep
from stoker.core import times
from stoker.core.plan import AnswerCheck
from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError, NotFound
from stoker.kube.resources import ADMISSION_CHECKS, WORKLOADS
from stoker.kube.store import Store

LOG = logging.getLogger(__name__)

#: After a failure it is tried again so much later.
AGAIN_SECONDS = 5.0


async def answer(client: KubeClient, store: Store, answered: AnswerCheck, now: float) -> None:
    """Write an answer, unless the Workload has gone or its check is no longer asked. Raises Conflict where Kueue wrote
    meanwhile: then the plan is made anew."""
    path = WORKLOADS.path(answered.namespace, answered.workload)
    try:
        found: dict[str, Any] = await client.get(path)
        checks = [dict(one) for one in found.get("status", {}).get("admissionChecks") or ()]
        asked = next((one for one in checks if one["name"] == answered.check), None)
        if asked is None or asked["state"] != "Pending":
            return
        asked |= {"state": answered.state, "message": answered.message, "lastTransitionTime": times.rfc3339(int(now))}
        asked.pop("podSetUpdates", None)
        if answered.assigned:
            asked["podSetUpdates"] = [{"name": POD_SET, "nodeSelector": {answered.assigned: "true"}}]
        # Kueue 0.18 keeps the quota for as long as that says.
        asked.pop("requeueAfterSeconds", None)
        # The list is written whole, as it was read: what others answered stays.
        version = found["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "status": {"admissionChecks": checks}}
        store.put(WORKLOADS.kind, await client.patch(f"{path}/status", body, WORKLOADS.shape))
    except NotFound:
        return


class Checks:
    """Keeps the condition Active of Stoker's AdmissionChecks True: without it Kueue lets nobody through their queues."""

    def __init__(self, client: KubeClient, store: Store, gate: Gate, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._store = store
        self._gate = gate
        self._alarm = asyncio.Event()
        store.listen(self._changed)

    def _changed(self, kind: str, old: object, new: object) -> None:
        if kind == ADMISSION_CHECKS.kind and new is not None:
            self._alarm.set()

    async def run(self) -> None:
        """Look at once, whenever a check comes or changes, and every ten minutes; for ever."""
        await keep(self._gate, self._alarm, self._keep, AGAIN_SECONDS)

    async def _keep(self) -> bool:
        """Say Active where it is not said; False when some could not be written."""
        own: list[AdmissionCheck] = [
            one for one in self._store.all(ADMISSION_CHECKS.kind) if one.spec.controller_name == CHECK_CONTROLLER
        ]
        whole = True
        for one in own:
            if not any(told.type == "Active" and told.status == "True" for told in one.status.conditions):
                whole = await self._activate(one) and whole
        return whole

    async def _activate(self, one: AdmissionCheck) -> bool:
        active = {
            "type": "Active", "status": "True", "reason": "Active", "message": "Stoker answers this check",
            "observedGeneration": one.metadata.generation,
            "lastTransitionTime": times.rfc3339(int(self._clock())),
        }  # fmt: skip
        body = {
            "apiVersion": ADMISSION_CHECKS.api_version, "kind": ADMISSION_CHECKS.kind,
            "metadata": {"name": one.metadata.name, "uid": one.metadata.uid}, "status": {"conditions": [active]},
        }  # fmt: skip
        try:
            await self._client.apply_status(ADMISSION_CHECKS.path(name=one.metadata.name), body)
        except NotFound:
            return True
        except (KubeError, NotLeading) as error:
            LOG.warning("cannot make AdmissionCheck %s active: %s", one.metadata.name, error)
            return False
        return True
