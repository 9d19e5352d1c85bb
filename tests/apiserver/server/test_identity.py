"""Tokens and owners as a real API server and a real Job controller make them."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from lab import Lab
from stoker.api import names
from stoker.kube.client import KubeClient
from stoker.kube.resources import JOBS, NAMESPACES, PODS, SERVICE_ACCOUNTS, TRAINING_JOBS
from stoker.server.errors import Refusal
from stoker.server.identity import Rank, rank_of
from stoker.server.keys import KeyRing
from stoker.server.tokens import Tokens
from tests.support import labs

pytestmark = pytest.mark.lab

#: Its own: the end-to-end tests, which run beside this one, must keep theirs.
NAME = "stoker-identity"
CRD = "customresourcedefinition/trainingjobs.stoker.dev"
POD = {
    "containers": [{"name": "main", "image": "none.invalid/none"}],
    "restartPolicy": "Never",
    "serviceAccountName": "runner",
}


@pytest.fixture(scope="module")
def lab(repository: Path) -> Iterator[Lab]:
    """A lab that knows TrainingJobs; the CRD goes again if it came with us."""
    lab = labs.running(NAME, nodes=1)
    known = lab.kubectl("get", CRD, "--ignore-not-found", "-o", "name").strip()
    if not known:
        lab.kubectl("apply", "-f", str(repository / "crds" / "trainingjobs.yaml"))
        lab.established(CRD)
    yield lab
    if not known:
        lab.kubectl("delete", CRD)


@pytest.fixture
async def kube(lab: Lab) -> AsyncIterator[KubeClient]:
    async with KubeClient.from_kubeconfig(lab.kubeconfig, user_agent="stoker-server/test") as kube:
        yield kube


class Cluster:
    """Two namespaces on a real API server."""

    def __init__(self, kube: KubeClient) -> None:
        self.kube = kube
        self.team, self.evil = (f"{name}-{secrets.token_hex(3)}" for name in ("team", "evil"))
        self.tokens = Tokens(kube, "stoker-run")

    async def prepare(self) -> None:
        for namespace in (self.team, self.evil):
            await self.kube.create(NAMESPACES.path(), {"metadata": {"name": namespace}})
            await self.kube.create(SERVICE_ACCOUNTS.path(namespace), {"metadata": {"name": "runner"}})

    async def remove(self) -> None:
        for namespace in (self.team, self.evil):
            await self.kube.delete(NAMESPACES.path("", namespace))

    async def train(self, name: str, attempt: int, ranks: int) -> list[dict[str, Any]]:
        """A TrainingJob and its child; the pods that the Job controller makes, by rank."""
        spec = {
            "compute": "none",
            "command": {"command": "true", "environment": {"spec": {"image": "none.invalid/none"}}},
        }
        body = {"apiVersion": names.API_VERSION, "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}
        job = await self.kube.create(TRAINING_JOBS.path(self.team), body)
        child = names.child_name(name, job["metadata"]["uid"], attempt)
        await self.kube.create(
            JOBS.path(self.team),
            {
                "metadata": {"name": child, "ownerReferences": [owner(job)]},
                "spec": {
                    "completionMode": "Indexed", "completions": ranks, "parallelism": ranks, "backoffLimit": 0,
                    "template": {"spec": POD},
                },
            },
        )  # fmt: skip
        selector = f"batch.kubernetes.io/job-name={child}"
        listing = await self.kube.list(PODS.path(self.team), label_selector=selector)
        found = {pod["metadata"]["name"]: pod for pod in listing.items}
        if len(found) < ranks:
            watch = self.kube.watch(
                PODS.path(self.team),
                dict,
                resource_version=listing.resource_version,
                label_selector=selector,
                timeout_seconds=30,
            )
            async for event in watch:
                if event.object is not None:
                    found[event.object["metadata"]["name"]] = event.object
                if len(found) == ranks:
                    break
        return sorted(found.values(), key=lambda pod: pod["metadata"]["labels"][names.LABEL_RANK])

    async def pod(self, namespace: str, like: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A pod that somebody makes by hand in another one's image."""
        kept = {key: like["metadata"][key] for key in ("labels", "ownerReferences", "finalizers", "name")}
        body = {"metadata": {**kept, **changes}, "spec": POD}
        return await self.kube.create(PODS.path(namespace), body)

    async def token(self, pod: dict[str, Any], audience: str = "stoker-run") -> str:
        meta = pod["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        spec = {"audiences": [audience], "boundObjectRef": bound, "expirationSeconds": 600}
        path = SERVICE_ACCOUNTS.path(meta["namespace"], "runner") + "/token"
        return (
            await self.kube.create(
                path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            )
        )["status"]["token"]

    async def rank(self, token: str) -> Rank:
        header = (b"authorization", b"Bearer " + token.encode())
        return await rank_of(self.kube, await self.tokens.caller(Request({"type": "http", "headers": [header]})))

    async def reason(self, token: str) -> str:
        with pytest.raises(Refusal) as caught:
            await self.rank(token)
        return caught.value.reason


def owner(job: dict[str, Any]) -> dict[str, Any]:
    meta = job["metadata"]
    return {
        "apiVersion": job["apiVersion"], "kind": job["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True,
    }  # fmt: skip


@pytest.fixture
async def cluster(kube: KubeClient) -> AsyncIterator[Cluster]:
    cluster = Cluster(kube)
    await cluster.prepare()
    yield cluster
    await cluster.remove()


@pytest.mark.parametrize("name", ["iris", "n" * 63])
async def test_each_pod_of_a_child_is_its_rank(cluster: Cluster, name: str) -> None:
    pods = await cluster.train(name, attempt=2, ranks=3)

    ranks = [await cluster.rank(await cluster.token(pod)) for pod in pods]

    assert [(cluster.team, name, 2, rank) for rank in range(3)] == [
        (r.namespace, r.name, r.attempt, r.rank) for r in ranks
    ]
    assert [pod["metadata"]["uid"] for pod in pods] == [rank.pod_uid for rank in ranks]


async def test_a_token_for_the_api_server_is_no_token_for_us(cluster: Cluster) -> None:
    (pod,) = await cluster.train("iris", attempt=1, ranks=1)

    assert "Unauthenticated" == await cluster.reason(
        await cluster.token(pod, "https://kubernetes.default.svc.cluster.local")
    )


async def test_a_pod_in_another_namespace_that_names_our_job_is_nobody(cluster: Cluster) -> None:
    """The API server takes such owner references: it checks none of them."""
    (pod,) = await cluster.train("iris", attempt=1, ranks=1)
    forged = await cluster.pod(cluster.evil, pod)

    assert pod["metadata"]["ownerReferences"][0]["uid"] == forged["metadata"]["ownerReferences"][0]["uid"]
    assert "NotARank" == await cluster.reason(await cluster.token(forged))
    await cluster.kube.patch(PODS.path(cluster.evil, forged["metadata"]["name"]), {"metadata": {"finalizers": None}})


async def test_a_pod_made_by_hand_that_the_job_controller_does_not_track_is_nobody(cluster: Cluster) -> None:
    (pod,) = await cluster.train("iris", attempt=1, ranks=1)
    forged = await cluster.pod(cluster.team, pod, name=pod["metadata"]["name"][:-5] + "zzzzz", finalizers=[])

    assert "NotARank" == await cluster.reason(await cluster.token(forged))


async def test_two_servers_make_one_key(cluster: Cluster) -> None:
    first, second = await KeyRing(cluster.kube, cluster.team).keys(), await KeyRing(cluster.kube, cluster.team).keys()

    assert first == second
