"""Thousands of scale-downs while jobs and pods of others race for the very nodes that are about to go.

    python tools/scale_downs.py [--scale-downs 10000] [--seconds 3600] [--pools 3] [--nodes 100] [--seed 0] [--lab stoker-tide] [-o json]

Root, Linux. A real control plane and the operator as a process of its own; kwok plays machines and pods. `minInstances` of
each pool goes up and down like a tide, so that all its nodes are let go again and again. At moments drawn from the seed,
from just before each ebb until the nodes are gone, TrainingJobs are submitted, which Stoker gives nodes, and bare pods,
which the scheduler places. A node that is removed under a pod that has not ended is a broken promise; etcd's own order of
changes tells. Exits with 1 when there is one, or when a job did not end in its first attempt.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

from stoker.kube.client import KubeClient  # noqa: E402
from stoker.kube.errors import NotFound  # noqa: E402
from tools.scaling.witness import Witness  # noqa: E402

if TYPE_CHECKING:
    from lab import Lab

Json = dict[str, Any]
CLUSTERS = "/apis/stoker.dev/v1alpha1/computeclusters"
POOL = "stoker.dev/compute"
#: Seconds around an ebb in which racers are submitted: from the last moment before it until its nodes have gone.
WINDOW = (-0.5, 7.5)
#: How long a racer runs, in seconds.
RUNS = (1, 5)
#: Racers of an ebb, as a part of the pool's nodes; half of them are jobs, half are pods of others.
RACERS = 0.4
#: A tide that does not come in or go out within so many seconds is a failure of its own.
PATIENCE = 180.0


@dataclass
class Outcome:
    """What was seen. killed: pods whose node went under them. not_completed: jobs that did not end Completed in their
    first attempt, and pods of others that did not succeed. close_calls: pods that ran on a node that had been told to
    leave."""

    seed: int
    scale_downs: int = 0
    ebbs: int = 0
    jobs: int = 0
    pods: int = 0
    close_calls: int = 0
    killed: list[str] = field(default_factory=list)
    not_completed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.scale_downs > 0 and not self.killed and not self.not_completed


def pool(name: str, nodes: int) -> Json:
    """A pool of simulated machines that lets go of a node as soon as it is idle."""
    return {
        "apiVersion": "stoker.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": name},
        "spec": {
            "provider": {"type": "Kwok", "kwok": {}}, "maxInstances": nodes, "idleSecondsBeforeScaleDown": 0,
            "allowedNamespaces": {}, "instanceTypes": [{"name": "std", "resources": {"cpu": "8", "memory": "32Gi"}}],
        },
    }  # fmt: skip


class Tides:
    """One race over some pools of a namespace's own."""

    def __init__(self, kube: KubeClient, lab: "Lab", namespace: str, seed: int) -> None:
        self._kube, self._image, self._namespace = kube, lab.images["base"], namespace
        self._seed, self._last = seed, 0.0
        self.witness = Witness()
        self.outcome = Outcome(seed)
        self._live: dict[str, set[str]] = {}
        self._racing: Counter[str] = Counter()
        self._ended: set[str] = set()
        self._tidying: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()

    async def run(self, pools: list[str], nodes: int, wanted: int, seconds: float) -> Outcome:
        """Tides in all pools until so many nodes were removed, none new after so many seconds; then everything ends and is
        judged."""
        started = time.monotonic()
        self._last = started + seconds
        notes = (
            ("/api/v1/nodes", self._note_node, POOL),
            (f"/api/v1/namespaces/{self._namespace}/pods", self._note_pod, ""),
            (f"/apis/stoker.dev/v1alpha1/namespaces/{self._namespace}/trainingjobs", self._note_job, ""),
        )
        self._live = {name: set() for name in pools}
        async with asyncio.TaskGroup() as group:
            watches = [group.create_task(self._watch(*note)) for note in notes]
            async with asyncio.TaskGroup() as tides:
                for name in pools:
                    tides.create_task(self._tide(name, nodes, wanted))
            await asyncio.gather(*self._tidying)
            for watch in watches:
                watch.cancel()
        found, told = self.outcome, self.witness
        found.scale_downs, found.killed, found.close_calls = told.removed, told.killed(), told.close_calls()
        found.not_completed += [one.name for one in told.pods.values() if one.bound and not one.succeeded]
        found.seconds = round(time.monotonic() - started, 1)
        return found

    async def _tide(self, name: str, nodes: int, wanted: int) -> None:
        chance = random.Random(f"{self._seed} {name}")
        while self.witness.removed < wanted and time.monotonic() < self._last:
            await self._least(name, nodes)
            await self._until(f"{name} has {nodes} nodes", lambda: len(self._live[name]) >= nodes)
            moments = sorted((chance.uniform(*WINDOW), chance.randint(*RUNS)) for _ in range(int(nodes * RACERS)))
            async with asyncio.TaskGroup() as racers:
                ebb = time.monotonic() - WINDOW[0]
                for number, (moment, seconds) in enumerate(moments):
                    racers.create_task(self._race(name, ebb + moment, seconds, of_others=bool(number % 2)))
                await asyncio.sleep(max(0.0, ebb - time.monotonic()))
                await self._least(name, 0)
            self.outcome.ebbs += 1
            await self._until(f"{name} has let go", lambda: len(self._live[name]) <= self._racing[name])
        # Those that came too late for the last nodes get others.
        await self._least(name, nodes)
        await self._until(f"all racers of {name} have ended", lambda: not self._racing[name])
        await self._least(name, 0)
        await self._until(f"{name} is at zero", lambda: not self._live[name])

    async def _race(self, name: str, at: float, seconds: int, *, of_others: bool) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        self._racing[name] += 1
        if of_others:
            self.outcome.pods += 1
            await self._kube.create(f"/api/v1/namespaces/{self._namespace}/pods", self._pod(name, str(seconds)))
        else:
            self.outcome.jobs += 1
            path = f"/apis/stoker.dev/v1alpha1/namespaces/{self._namespace}/trainingjobs"
            await self._kube.create(path, self._job(name, str(seconds)))

    def _pod(self, name: str, seconds: str) -> Json:
        """One that tolerates the pool's own taint, as an administrator's may, and not that of a node that leaves."""
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": f"{name}-other-{self.outcome.pods}", "labels": {"tide": name},
                "annotations": {"lab.stoker.dev/run-seconds": seconds},
            },
            "spec": {
                "nodeSelector": {POOL: name}, "restartPolicy": "Never",
                "tolerations": [{"key": POOL, "operator": "Equal", "value": name, "effect": "NoSchedule"}],
                "containers": [{"name": "main", "image": self._image, "command": ["true"]}],
            },
        }  # fmt: skip

    def _job(self, name: str, seconds: str) -> Json:
        command = {
            "command": "true", "environment": {"spec": {"image": self._image}},
            "pod": {"annotations": {"lab.stoker.dev/run-seconds": seconds}},
        }  # fmt: skip
        return {
            "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": f"{name}-{self.outcome.jobs}", "labels": {"tide": name}},
            "spec": {"compute": name, "command": command},
        }  # fmt: skip

    async def _least(self, name: str, nodes: int) -> None:
        await self._kube.patch(f"{CLUSTERS}/{name}", {"spec": {"minInstances": nodes}})

    # -- what is heard

    async def _watch(self, path: str, note: Callable[[str, int, Json], None], labels: str) -> None:
        """Every change from now on, without a gap: a history that was cut (Gone) ends the race."""
        version = (await self._kube.list(path, label_selector=labels)).resource_version
        while True:
            async for event in self._kube.watch(path, dict, resource_version=version, label_selector=labels):
                version = event.version
                if event.object is not None:
                    note(event.type, int(version), event.object)
                    async with self._news:
                        self._news.notify_all()

    async def _until(self, what: str, true: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(true)
        except TimeoutError:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}; {self._live=} {self._racing=}") from None

    def _note_node(self, what: str, version: int, found: Json) -> None:
        live = self._live.get(found["metadata"]["labels"][POOL])
        if live is None:
            return
        self.witness.node(what, version, found)
        (live.discard if what == "DELETED" else live.add)(found["metadata"]["name"])

    def _note_pod(self, what: str, version: int, found: Json) -> None:
        self.witness.pod(what, version, found)
        metadata = found["metadata"]
        # Pods of jobs are counted by their jobs.
        if "tide" in metadata["labels"] and self._is_new_end(metadata["uid"], found["status"].get("phase", ""), what):
            self._over(found, "/api/v1", "pods")

    def _note_job(self, what: str, version: int, found: Json) -> None:
        metadata, status = found["metadata"], found.get("status", {})
        if not self._is_new_end(metadata["uid"], status.get("phase", ""), what):
            return
        self._over(found, "/apis/stoker.dev/v1alpha1", "trainingjobs")
        if status.get("phase") != "Completed" or len(status.get("attempts", ())) != 1:
            tries = [(one["number"], one.get("reason")) for one in status.get("attempts", ())]
            self.outcome.not_completed.append(f"{metadata['name']}: {status.get('phase')}, attempts {tries}")

    def _is_new_end(self, uid: str, phase: str, what: str) -> bool:
        ended = phase in ("Completed", "Failed", "Canceled", "Succeeded") or what == "DELETED"
        if not ended or uid in self._ended:
            return False
        self._ended.add(uid)
        return True

    def _over(self, found: Json, group: str, plural: str) -> None:
        """A racer has ended: it is out of the race, and its object goes."""
        self._racing[found["metadata"]["labels"]["tide"]] -= 1

        async def tidy() -> None:
            with contextlib.suppress(NotFound):
                await self._kube.delete(f"{group}/namespaces/{self._namespace}/{plural}/{found['metadata']['name']}")

        task = asyncio.create_task(tidy())
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)


async def race(
    lab: "Lab", namespace: str, *, pools: int, nodes: int, wanted: int, seed: int, seconds: float = 3600.0
) -> Outcome:
    """Race in a namespace that exists. The pools are made for it and are at zero afterwards, and stay."""
    names = [f"tide-{number}" for number in range(pools)]
    async with KubeClient.from_kubeconfig(lab.kubeconfig, user_agent="stoker-tide") as kube:
        for name in names:
            try:
                await kube.get(f"{CLUSTERS}/{name}")
            except NotFound:
                await kube.create(CLUSTERS, pool(name, nodes))
        return await Tides(kube, lab, namespace, seed).run(names, nodes, wanted, seconds)


@contextmanager
def sealing(lab: "Lab") -> Iterator[None]:
    """Plays the part of jobs' pods that no container plays here: seals them; they end by themselves."""
    s3 = lab.s3
    env = {
        **os.environ, "PYTHONPATH": str(ROOT / "operator"), "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key, "AWS_ENDPOINT_URL": s3.endpoint, "AWS_REGION": s3.region,
    }  # fmt: skip
    command = [sys.executable, "-m", "lab.sealer", "--kubeconfig", str(lab.kubeconfig), "--direct"]
    process = subprocess.Popen([*command, "--store-url", f"s3://{s3.bucket}"], cwd=ROOT, env=env)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def main() -> int:
    import lab as embedded
    from tests.apiserver.controller.conftest import SYSTEM, Cluster, Operator, until

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scale-downs", type=int, default=10_000)
    parser.add_argument("--pools", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=100, help="of each pool")
    parser.add_argument("--seconds", type=float, default=3600, help="no new tide comes in after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lab", default="stoker-tide")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    lab = embedded.up(options.lab, nodes=0, progress=lambda line: print(line, file=sys.stderr, flush=True))
    try:
        cluster = Cluster(lab)
        lab.kubectl("apply", "-f", str(ROOT / "crds"))
        lab.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        cluster.apply(
            *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one}} for one in (SYSTEM, "tide"))
        )
        with tempfile.TemporaryDirectory() as folder, sealing(lab):
            operator = Operator(cluster, Path(folder))
            operator.start()
            try:
                until("the operator leads", lambda: operator.leads)
                found = asyncio.run(
                    race(
                        lab, "tide", pools=options.pools, nodes=options.nodes, wanted=options.scale_downs,
                        seed=options.seed, seconds=options.seconds,
                    )
                )  # fmt: skip
            except BaseException:
                print(operator.log[-6000:], file=sys.stderr)
                raise
            finally:
                operator.end()
    finally:
        embedded.down(options.lab)
    if options.output == "json":
        print(json.dumps(asdict(found), indent=2))
    else:
        print(
            f"{found.scale_downs:,} scale-downs in {found.ebbs} ebbs of {options.pools} pools, {found.seconds:.0f} s, seed {found.seed}\n"
            f"{found.jobs:,} jobs and {found.pods:,} pods of others raced; {found.close_calls:,} of them ran on a node that had been told to leave\n"
            f"nodes removed under a running pod: {len(found.killed)} {found.killed[:10]}\n"
            f"not completed in the first attempt: {len(found.not_completed)} {found.not_completed[:10]}"
        )
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
