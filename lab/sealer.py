"""Plays the pod's part on kwok nodes, where no container runs and so nothing would ever seal.

For each running pod of a job on a kwok node it asks for a token bound to that pod, takes a grant from Stoker's real server with it, posts a seal of zero files
and an exit code of 0, and then sets the annotation for which the kwok stage waits. It has a user agent of its own, so that its requests are told apart in the
audit log. `--direct` skips token, grant and server and writes the seal straight into the store: the difference is what the real way costs. A pod that says
itself when it ends is only sealed.

    python -m lab.sealer --kubeconfig FILE --server URL
    python -m lab.sealer --kubeconfig FILE --direct --store-url s3://bucket
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from stoker.api import names
from stoker.api.kube import Lean, ObjectMeta, Pod
from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError, NotFound
from stoker.runtime.wire import POD_AUDIENCE

USER_AGENT = "lab-sealer"
FINISH = "lab.stoker.dev/finish"
ENDS_BY_ITSELF = "lab.stoker.dev/run-seconds"
#: Pods sealed at the same time; more only queue up at the server.
AT_ONCE = 16
#: After a seal that could not be made; whatever was down is asked again for as long as the pod is there.
AGAIN_SECONDS = 1.0


class _Node(Lean):
    metadata: ObjectMeta


class Sealed(Exception):
    """The rank has its seal already."""


class Sealer:
    """Seals every job's pod that it sees running on a kwok node, once. hold: how long it lets a pod run, in seconds."""

    def __init__(
        self, kube: KubeClient, http: aiohttp.ClientSession, server: str, store: Any | None, hold: float = 0.0
    ) -> None:
        self._kube, self._http, self._server, self._store, self._hold = kube, http, server, store, hold
        self._seen: set[str] = set()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._kwok: set[str] = set()

    async def follow(self) -> None:
        """Watch for ever; a cut or expired watch is begun anew with a list."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    listing = await self._kube.list("/api/v1/pods", Pod, label_selector=names.LABEL_JOB_UID)
                    await self._learn_nodes()
                    for pod in listing.items:
                        await self._note(pod, tasks)
                    async for event in self._kube.watch(
                        "/api/v1/pods",
                        Pod,
                        resource_version=listing.resource_version,
                        label_selector=names.LABEL_JOB_UID,
                    ):
                        if event.type in ("ADDED", "MODIFIED") and event.object is not None:
                            await self._note(event.object, tasks)
                except (KubeError, aiohttp.ClientError, TimeoutError) as error:
                    print(f"sealer: {error}; listing anew in {AGAIN_SECONDS:g} s", file=sys.stderr, flush=True)
                    await asyncio.sleep(AGAIN_SECONDS)

    async def _learn_nodes(self) -> None:
        nodes = await self._kube.list("/api/v1/nodes", _Node)
        self._kwok = {
            node.metadata.name for node in nodes.items if node.metadata.annotations.get("kwok.x-k8s.io/node") == "fake"
        }

    async def _note(self, pod: Pod, tasks: asyncio.TaskGroup) -> None:
        states = [status.state for status in pod.status.container_statuses if status.name == "main"]
        # A pod that ends by itself may have ended before it is seen.
        started = any(state.running or (self._store is not None and state.terminated) for state in states)
        if not started or pod.metadata.uid in self._seen:
            return
        if pod.spec.node_name not in self._kwok:
            await self._learn_nodes()
            if pod.spec.node_name not in self._kwok:
                return
        self._seen.add(pod.metadata.uid)
        tasks.create_task(self._seal(pod))

    async def _seal(self, pod: Pod) -> None:
        await asyncio.sleep(self._hold)
        while True:
            try:
                async with self._places:
                    await (self._seal_directly(pod) if self._store is not None else self._seal_through_the_server(pod))
                    if ENDS_BY_ITSELF not in pod.metadata.annotations:
                        await self._kube.patch(_path(pod), {"metadata": {"annotations": {FINISH: "true"}}})
                return
            except NotFound:
                return  # the pod has gone, and a new one is another one
            except (KubeError, aiohttp.ClientError, TimeoutError) as error:
                print(
                    f"sealer: {pod.metadata.name}: {error}, again in {AGAIN_SECONDS:g} s", file=sys.stderr, flush=True
                )
                await asyncio.sleep(AGAIN_SECONDS)

    async def _seal_through_the_server(self, pod: Pod) -> None:
        token: dict[str, Any] = await self._kube.create(
            f"/api/v1/namespaces/{pod.metadata.namespace}/serviceaccounts/default/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": [POD_AUDIENCE],
                    "expirationSeconds": 600,
                    "boundObjectRef": {
                        "kind": "Pod",
                        "apiVersion": "v1",
                        "name": pod.metadata.name,
                        "uid": pod.metadata.uid,
                    },
                },
            },
        )
        try:
            grant = await self._post("/v1/grant", {"protocol": 1}, token["status"]["token"])
            await self._post("/v1/seal", {"grant": grant["grant"], "exit": _exit_record(), "files": [], "missing": []})
        except Sealed:
            return  # by us, before something went wrong, or as lost, by the operator

    async def _seal_directly(self, pod: Pod) -> None:
        labels = pod.metadata.labels
        key = names.job_key(labels[names.LABEL_JOB], labels[names.LABEL_JOB_UID])
        attempt, rank = int(labels[names.LABEL_ATTEMPT]), int(labels[names.LABEL_RANK])
        seal = {
            "version": 1, "job": key, "attempt": attempt, "rank": rank, "complete": True, "reason": None, "message": "",
            "exit": _exit_record(), "files": [], "missing": [], "sealedAt": _now(), "sealedBy": "server",
        }  # fmt: skip
        assert self._store is not None
        place = f"{pod.metadata.namespace}/jobs/{key}/attempts/{attempt}/{rank}/seal.json"
        await self._store.put(place, json.dumps(seal).encode(), only_if_absent=True)

    async def _post(self, path: str, body: dict[str, Any], token: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._http.post(self._server + path, json=body, headers=headers) as response:
            answer = await response.text()
            if response.status == 409 and '"Sealed"' in answer:
                raise Sealed
            if response.status >= 400:
                raise aiohttp.ClientError(f"{path}: {response.status} {answer[:500]}")
            return json.loads(answer)


def _path(pod: Pod) -> str:
    return f"/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _exit_record() -> dict[str, Any]:
    now = _now()
    return {
        "version": 1, "code": 0, "signal": None, "reason": None, "message": "", "startedAt": now, "finishedAt": now,
        "logBytes": 0, "logTail": "",
    }  # fmt: skip


async def _main(arguments: argparse.Namespace) -> None:
    store = None
    if arguments.direct:
        from stoker.storage.objects import StoreOptions, open_store

        store = open_store(arguments.store_url, StoreOptions.from_env())
    kube = KubeClient.from_kubeconfig(arguments.kubeconfig, user_agent=USER_AGENT)
    # A server that is stopped takes a connection and never answers.
    limit = aiohttp.ClientTimeout(total=30)
    async with kube, aiohttp.ClientSession(headers={"User-Agent": USER_AGENT}, timeout=limit) as http:
        sealer = Sealer(kube, http, arguments.server.rstrip("/"), store, arguments.hold_seconds)
        following = asyncio.ensure_future(sealer.follow())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, following.cancel)
        try:
            await following
        except asyncio.CancelledError:
            return


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lab.sealer", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--server", default="", help="URL of Stoker's server")
    parser.add_argument("--direct", action="store_true", help="write seals straight into the store")
    parser.add_argument("--store-url", default="", help="workspace storage without the namespace, with --direct")
    parser.add_argument("--hold-seconds", type=float, default=0.0, help="how long each pod runs before it is sealed")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
