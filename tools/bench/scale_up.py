"""How soon a pending job becomes a launched machine, and what a burst costs, beside Karpenter on the same control plane.

    python tools/bench/scale_up.py [--single 60] [--burst 1000] [--nodes 60] [--boot-seconds 5] [--idle-seconds 10] [-o json]

Root, Linux. One control plane and one kwok for both contenders, one after the other in one run: Stoker's operator with a
pool of type Kwok, and Karpenter's own build for kwok, each a process of its own with the defaults it comes with but for
client rates and a NodePool that may remove all idle nodes at once, as Stoker's does. Same machine type, one job a node, same
most nodes, same boot delay, same idle time. Karpenter gets plain Jobs of one pod, Stoker TrainingJobs, whose pods
lab/sealer.py seals.

single: jobs are submitted one by one, each of which needs a machine. Launch latency of a job: from its POST to the launch
call (for Stoker the POST of the Node, for Karpenter that of the NodeClaim, from which its kwok provider launches at once),
by the audit log's own times, oldest job to oldest launch. burst: jobs at once; processor time and memory of the
contender's process until the last has ended, its requests until the pool is at zero again (not the watches that stay open),
node-seconds from each launch until its machine has gone.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

import lab as embedded  # noqa: E402
from lab import karpenter  # noqa: E402
from stoker.kube.client import KubeClient  # noqa: E402
from tools.bench.throughput import plain_is_done, training_is_done  # noqa: E402
from tools.scale_downs import sealing  # noqa: E402

Json = dict[str, Any]
POOL, NAMESPACE = "bench", "bench"
#: The type of machine: one of those that Karpenter's kwok build knows.
MACHINE, RESOURCES = "c-16x-amd64-linux", {"cpu": "16", "memory": "32Gi"}
#: POSTs of jobs at a time in the burst.
IN_FLIGHT = 32
#: Between two jobs submitted one by one, in seconds.
PAUSE = (0.2, 0.8)
#: How much longer a job of the first part runs than it takes to submit all, so that none finds an idle node; and how long
#: one of the burst runs, in seconds.
BEYOND, SHORT = 10, 1
GOALS = {"p50": 1.0, "p99": 3.0, "cores": 0.25, "megabytes": 200.0}
PATIENCE = 600.0


@dataclass(frozen=True)
class Contender:
    """How one of the two is asked, and what its traces are.

    jobs: path of what is submitted. launches: path of the objects that stand for machines. made: verb and resource of a
    launch call in the audit log. agent: how its user agent begins.
    """

    name: str
    jobs: str
    launches: str
    labels: str
    agent: str
    made: str
    submitted: str
    job: Callable[[str, int, str], Json]
    is_done: Callable[[Json], bool]


def training_job(name: str, seconds: int, image: str) -> Json:
    annotations = {"lab.stoker.dev/run-seconds": str(seconds)}
    command = {"command": "true", "environment": {"spec": {"image": image}}, "pod": {"annotations": annotations}}
    return {
        "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
        "spec": {"compute": POOL, "command": command},
    }  # fmt: skip


def plain_job(name: str, seconds: int, image: str) -> Json:
    """A Job whose pod needs more than half of a machine."""
    pod = {
        "restartPolicy": "Never", "nodeSelector": {"karpenter.sh/nodepool": POOL},
        "containers": [
            {"name": "main", "image": image, "command": ["true"], "resources": {"requests": {"cpu": "9", "memory": "1Gi"}}},
        ],
    }  # fmt: skip
    template = {"metadata": {"annotations": {"lab.stoker.dev/run-seconds": str(seconds)}}, "spec": pod}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "completions": 1, "parallelism": 1, "completionMode": "Indexed", "backoffLimit": 0, "template": template,
        },
    }  # fmt: skip


STOKER = Contender(
    "stoker", f"/apis/stoker.dev/v1alpha1/namespaces/{NAMESPACE}/trainingjobs", "/api/v1/nodes",
    f"stoker.dev/compute={POOL}", "stoker-operator", "nodes", "trainingjobs", training_job, training_is_done,
)  # fmt: skip
KARPENTER = Contender(
    "karpenter", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs", "/apis/karpenter.sh/v1/nodeclaims",
    f"karpenter.sh/nodepool={POOL}", "karpenter", "nodeclaims", "jobs", plain_job, plain_is_done,
)  # fmt: skip


def stoker_pool(nodes: int, boot_seconds: int, idle_seconds: int) -> Json:
    return {
        "apiVersion": "stoker.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": POOL},
        "spec": {
            "provider": {"type": "Kwok", "kwok": {"bootSeconds": boot_seconds}}, "maxInstances": nodes,
            "idleSecondsBeforeScaleDown": idle_seconds, "allowedNamespaces": {},
            "instanceTypes": [{"name": "std", "resources": RESOURCES}],
        },
    }  # fmt: skip


def karpenter_pool(nodes: int, idle_seconds: int) -> Json:
    requirements = [
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [MACHINE]},
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
    ]
    return {
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": POOL},
        "spec": {
            "limits": {"cpu": str(nodes * 16)},
            "disruption": {
                "consolidationPolicy": "WhenEmpty", "consolidateAfter": f"{idle_seconds}s", "budgets": [{"nodes": "100%"}],
            },
            "template": {
                "spec": {"nodeClassRef": karpenter.NODE_CLASS, "requirements": requirements, "expireAfter": "Never"},
            },
        },
    }  # fmt: skip


# -- what is measured


@dataclass
class Process:
    """A process' costs, from /proc. peak: most memory since `watch` began, in MB."""

    pid: int
    peak: float = 0.0

    @property
    def processor_seconds(self) -> float:
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    async def watch(self) -> None:
        while True:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            self.peak = max(self.peak, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            await asyncio.sleep(0.2)


@dataclass
class Machines:
    """When each machine was launched and when it had gone, on one clock."""

    launched: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def there(self) -> int:
        return len(self.launched) - len(self.gone)

    def node_seconds(self) -> float:
        return sum(self.gone[name] - at for name, at in self.launched.items())

    def note(self, what: str, found: Json) -> None:
        name = found["metadata"]["name"]
        self.launched.setdefault(name, time.monotonic())
        if what == "DELETED":
            self.gone.setdefault(name, time.monotonic())
        self.news.set()


def events(audit_log: Path, since: int) -> Iterator[Json]:
    with audit_log.open("rb") as log:
        log.seek(since)
        for line in log:
            event = json.loads(line)
            if event.get("stage") == "ResponseComplete":
                yield event


def moments_of(found: list[Json], resource: str) -> list[float]:
    """When objects of a resource were POSTed with success, in order, in seconds since the epoch."""
    return sorted(
        datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        for event in found
        if event["verb"] == "create"
        and event.get("objectRef", {}).get("resource") == resource
        and not event["objectRef"].get("subresource")
        and event["responseStatus"]["code"] == 201
    )


def latencies(found: list[Json], contender: Contender) -> list[float]:
    """From each job's POST to the launch call for it: the oldest job's is the first."""
    jobs, launches = moments_of(found, contender.submitted), moments_of(found, contender.made)
    if len(launches) != len(jobs):
        raise SystemExit(f"{contender.name}: {len(launches)} launches for {len(jobs)} jobs that each needed one")
    return [round(launch - job, 3) for job, launch in zip(jobs, launches, strict=True)]


def requests(found: list[Json], contender: Contender) -> dict[str, int]:
    """Requests of the contender by verb."""
    return dict(Counter(event["verb"] for event in found if event.get("userAgent", "").startswith(contender.agent)))


def at(part: float, values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


# -- the two parts


async def follow(kube: KubeClient, contender: Contender, machines: Machines) -> None:
    version = (await kube.list(contender.launches, label_selector=contender.labels)).resource_version
    while True:
        async for event in kube.watch(
            contender.launches, dict, resource_version=version, label_selector=contender.labels
        ):
            version = event.version
            if event.object is not None:
                machines.note(event.type, event.object)


async def until_done(kube: KubeClient, contender: Contender, version: str, count: int) -> None:
    """Until a watch has shown so many jobs done."""
    done: set[str] = set()
    async with asyncio.timeout(PATIENCE):
        while True:
            async for event in kube.watch(contender.jobs, dict, resource_version=version):
                version = event.version
                if event.object is not None and contender.is_done(event.object):
                    done.add(event.object["metadata"]["name"])
                    if len(done) == count:
                        return


async def until_none(machines: Machines) -> None:
    async with asyncio.timeout(PATIENCE):
        while machines.there:
            machines.news.clear()
            await machines.news.wait()


async def part(
    lab: embedded.Lab, kube: KubeClient, contender: Contender, process: Process, names: list[str], *, seed: int | None
) -> Json:
    """One part: jobs one by one with pauses of the seed, or all at once; ends when the pool is at zero again."""
    machines, since = Machines(), lab.audit_log.stat().st_size
    following = asyncio.create_task(follow(kube, contender, machines))
    version = (await kube.list(contender.jobs)).resource_version
    had, began, process.peak = process.processor_seconds, time.monotonic(), 0.0
    watching = asyncio.create_task(process.watch())
    places = asyncio.Semaphore(IN_FLIGHT)
    image, seconds = lab.images["base"], SHORT if seed is None else int(len(names) * max(PAUSE)) + BEYOND

    async def submit(name: str) -> None:
        async with places:
            await kube.create(contender.jobs, contender.job(name, seconds, image))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(until_done(kube, contender, version, len(names)))
        chance = random.Random(seed)
        for name in names:
            tasks.create_task(submit(name))
            if seed is not None:
                await asyncio.sleep(chance.uniform(*PAUSE))
    lasted, spent, peak = time.monotonic() - began, process.processor_seconds - had, process.peak
    await until_none(machines)
    for task in (following, watching):
        task.cancel()
    await asyncio.gather(following, watching, return_exceptions=True)
    found = list(events(lab.audit_log, since))
    asked = requests(found, contender)
    row: Json = {
        "jobs": len(names), "seconds": round(lasted, 1), "processorSeconds": round(spent, 2),
        "cores": round(spent / lasted, 3), "peakMegabytes": round(peak, 1), "requests": asked,
        "requestsInAll": sum(asked.values()), "launches": len(machines.launched),
        "nodeSeconds": round(machines.node_seconds()), "untilZeroSeconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    if seed is not None:
        row["latencies"] = latencies(found, contender)
        row["p50"], row["p99"] = statistics.median(row["latencies"]), at(0.99, row["latencies"])
    else:
        first = (moments_of(found, contender.submitted), moments_of(found, contender.made))
        row["firstLaunch"] = round(first[1][0] - first[0][0], 3)
    print(f"{contender.name:10} {row}", file=sys.stderr, flush=True)
    return row


async def measure(lab: embedded.Lab, contender: Contender, pid: int, single: int, burst: int, seed: int) -> Json:
    async with KubeClient.from_kubeconfig(lab.kubeconfig, user_agent="stoker-bench") as kube:
        process = Process(pid)
        parts = {
            "single": await part(lab, kube, contender, process, [f"one-{n}" for n in range(single)], seed=seed),
            "burst": await part(lab, kube, contender, process, [f"many-{n}" for n in range(burst)], seed=None),
        }
        await emptied(kube, contender)
    return parts


async def emptied(kube: KubeClient, contender: Contender) -> None:
    """All jobs and their pods are deleted and gone: the next contender finds an empty namespace."""
    await kube.delete(contender.jobs)
    async with asyncio.timeout(PATIENCE):
        for path in (contender.jobs, f"/api/v1/namespaces/{NAMESPACE}/pods"):
            while (await kube.list(path)).items:
                await asyncio.sleep(1)


def run(lab: embedded.Lab, options: argparse.Namespace) -> Json:
    from tests.apiserver.controller.conftest import SYSTEM, Cluster, Operator, until

    cluster = Cluster(lab)
    lab.kubectl("apply", "-f", str(ROOT / "crds"))
    lab.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    cluster.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one}} for one in (SYSTEM, NAMESPACE))
    )
    found: Json = {name: value for name, value in vars(options).items() if name not in ("lab", "output")}
    with tempfile.TemporaryDirectory() as folder:
        with karpenter.running(lab, Path(folder) / "karpenter.log", boot_seconds=options.boot_seconds) as pid:
            cluster.apply(karpenter_pool(options.nodes, options.idle_seconds))
            lab.kubectl("wait", "nodepool.karpenter.sh", POOL, "--for=condition=Ready", "--timeout=60s")
            found["karpenter"] = asyncio.run(measure(lab, KARPENTER, pid, options.single, options.burst, options.seed))
        operator = Operator(cluster, Path(folder))
        operator.start()
        try:
            until("the operator leads", lambda: operator.leads)
            cluster.apply(stoker_pool(options.nodes, options.boot_seconds, options.idle_seconds))
            with sealing(lab):
                found["stoker"] = asyncio.run(
                    measure(lab, STOKER, operator.pid, options.single, options.burst, options.seed)
                )
            lab.kubectl("delete", "computecluster", POOL, "--timeout=60s")
        except BaseException:
            print(operator.log[-6000:], file=sys.stderr)
            raise
        finally:
            operator.end()
    return found


def table(found: Json) -> str:
    stoker, other = found["stoker"], found["karpenter"]
    rows = [
        ("launch latency p50, s", "single", "p50", GOALS["p50"]),
        ("launch latency p99, s", "single", "p99", GOALS["p99"]),
        ("node-seconds, one by one", "single", "nodeSeconds", None),
        ("burst: seconds until all have ended", "burst", "seconds", None),
        ("burst: launches", "burst", "launches", None),
        ("burst: node-seconds", "burst", "nodeSeconds", None),
        ("burst: processor seconds", "burst", "processorSeconds", None),
        ("burst: cores on average", "burst", "cores", GOALS["cores"]),
        ("burst: most memory, MB", "burst", "peakMegabytes", GOALS["megabytes"]),
        ("burst: API requests", "burst", "requestsInAll", None),
    ]
    lines = ["| | Stoker | Karpenter | goal |", "|---|---|---|---|"]
    for told, which, key, goal in rows:
        ours, theirs = stoker[which][key], other[which][key]
        verdict = "" if goal is None else f"at most {goal:g}: " + ("reached" if ours <= goal else "**missed**")
        lines.append(f"| {told} | {ours:,} | {theirs:,} | {verdict} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--single", type=int, default=60, help="jobs that are submitted one by one")
    parser.add_argument("--burst", type=int, default=1000, help="jobs that are submitted at once")
    parser.add_argument("--nodes", type=int, default=60, help="most nodes of the pool")
    parser.add_argument("--boot-seconds", type=int, default=5)
    parser.add_argument("--idle-seconds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lab", default="stoker-scale-up")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    lab = embedded.up(options.lab, nodes=0, progress=lambda line: print(line, file=sys.stderr, flush=True))
    try:
        found = run(lab, options)
    finally:
        embedded.down(options.lab)
    print(json.dumps(found, indent=1) if options.output == "json" else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
