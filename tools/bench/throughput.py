"""How many one-node jobs finish per second on kwok nodes, beside plain Indexed Jobs on the same control plane in the same run.

    python tools/bench/throughput.py [--jobs 500] [--rounds 3] [--lab stoker-bench] [-o json]

Contenders, one at a time and interleaved: `plain` (Indexed Jobs), `stoker` (TrainingJobs whose pods are sealed through the real server by lab/sealer.py, and
end when they are) and `stoker-direct` (the sealer writes the seal into the store and touches nothing else: without its cost). kwok ends the pods of the first
and the last by itself, one second after they run. A job counts as finished when a watch shows it Complete. API writes per job are counted from the audit log.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

import lab as embedded  # noqa: E402
from stoker.kube.client import KubeClient  # noqa: E402
from tools.demo import install  # noqa: E402

POOL = "bench"
IN_FLIGHT = 32
#: How a pod on a kwok node ends without a sealer.
ENDS_BY_ITSELF = {"lab.stoker.dev/run-seconds": "1"}
WRITES = frozenset({"create", "update", "patch", "delete"})


def manifests(nodes: int) -> list[dict[str, Any]]:
    """A pool of kwok nodes, and the ComputeCluster over them."""
    return [
        {
            "apiVersion": "lab.stoker.dev/v1", "kind": "NodePool", "metadata": {"name": POOL},
            "spec": {
                "replicas": nodes, "kind": "Kwok", "capacity": {"cpu": "4", "memory": "16Gi", "pods": "20"},
                "labels": {"stoker.dev/compute": POOL},
                "taints": [{"key": "stoker.dev/compute", "value": POOL, "effect": "NoSchedule"}],
            },
        },
        {
            "apiVersion": "stoker.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": POOL},
            "spec": {
                "provider": {"type": "Static", "static": {"nodeSelector": {"stoker.dev/compute": POOL}}},
                "instanceTypes": [{"name": "kwok", "resources": {"cpu": "4", "memory": "16Gi"}}],
                "maxInstances": nodes, "allowedNamespaces": {},
            },
        },
    ]  # fmt: skip


def plain_job(name: str, image: str) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "completions": 1, "parallelism": 1, "completionMode": "Indexed", "backoffLimit": 0,
            "template": {
                "metadata": {"annotations": dict(ENDS_BY_ITSELF)},
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": {"stoker.dev/compute": POOL},
                    "tolerations": [{"key": "stoker.dev/compute", "operator": "Exists"}],
                    "containers": [{"name": "main", "image": image, "command": ["true"], "resources": {"requests": {"cpu": "3"}}}],
                },
            },
        },
    }  # fmt: skip


def training_job(name: str, image: str, *, ends_by_itself: bool = False) -> dict[str, Any]:
    pod = {"pod": {"annotations": dict(ENDS_BY_ITSELF)}} if ends_by_itself else {}
    return {
        "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
        "spec": {"compute": POOL, "command": {"command": "true", "environment": {"spec": {"image": image}}, **pod}},
    }  # fmt: skip


def plain_is_done(job: dict[str, Any]) -> bool:
    return any(c["type"] == "Complete" and c["status"] == "True" for c in job.get("status", {}).get("conditions", ()))


def training_is_done(job: dict[str, Any]) -> bool:
    phase = job.get("status", {}).get("phase")
    if phase in ("Failed", "Canceled"):
        raise SystemExit(f"{job['metadata']['name']} ended {phase}: {job['status'].get('message')}")
    return bool(phase == "Completed")


async def measure(
    kube: KubeClient,
    path: str,
    make: Callable[[str], dict[str, Any]],
    is_done: Callable[[dict[str, Any]], bool],
    prefix: str,
    count: int,
) -> dict[str, Any]:
    """Create `count` objects, wait until a watch has shown each one done; seconds from the first POST to the last end."""
    version: str = (await kube.list(path)).resource_version
    created: dict[str, float] = {}
    finished: dict[str, float] = {}
    places = asyncio.Semaphore(IN_FLIGHT)

    async def create(name: str) -> None:
        async with places:
            created[name] = time.monotonic()
            await kube.create(path, make(name))

    async def follow() -> None:
        async for event in kube.watch(path, dict, resource_version=version):
            if event.object is None:
                continue
            name = event.object["metadata"]["name"]
            if name.startswith(prefix) and name not in finished and is_done(event.object):
                finished[name] = time.monotonic()
                if len(finished) == count:
                    return
        raise SystemExit(f"the watch ended with {len(finished)} of {count} done")

    started = time.monotonic()
    async with asyncio.timeout(280), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        for number in range(count):
            tasks.create_task(create(f"{prefix}-{number}"))
    seconds = time.monotonic() - started
    waits = sorted(finished[name] - created[name] for name in created)
    return {"seconds": round(seconds, 2), "perSecond": round(count / seconds, 2),
            "createToDoneP50": round(statistics.median(waits), 2), "createToDoneP99": round(waits[int(len(waits) * 0.99) - 1], 2)}  # fmt: skip


@contextmanager
def sealing(lab: embedded.Lab, *, direct: bool) -> Iterator[None]:
    """The sealer as a process of its own while the block runs."""
    address = lab.kubectl("get", "pod", "stoker-server-0", "-n", "stoker-system", "-o", "jsonpath={.status.podIP}")
    arguments = (
        ["--direct", "--store-url", f"s3://{lab.s3.bucket}"] if direct else ["--server", f"http://{address}:8080"]
    )
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "operator"), "AWS_ENDPOINT_URL": lab.s3.endpoint, "AWS_REGION": lab.s3.region,
        "AWS_ACCESS_KEY_ID": lab.s3.access_key, "AWS_SECRET_ACCESS_KEY": lab.s3.secret_key,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "lab.sealer", "--kubeconfig", str(lab.kubeconfig), *arguments], cwd=ROOT, env=environment
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def writes_by_agent(audit_log: Path, offset: int) -> Counter[str]:
    """API writes since `offset` bytes into the audit log, by user agent and resource, denied and failed ones too."""
    counted: Counter[str] = Counter()
    with audit_log.open("rb") as log:
        log.seek(offset)
        for line in log:
            event = json.loads(line)
            if event.get("stage") == "ResponseComplete" and event["verb"] in WRITES:
                reference = event.get("objectRef", {})
                resource = "/".join(part for part in (reference.get("resource"), reference.get("subresource")) if part)
                counted[f"{event.get('userAgent', '').split('/')[0]} {event['verb']} {resource}"] += 1
    return counted


async def run(lab: embedded.Lab, jobs: int, rounds: int, image: str) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {"plain": [], "stoker": [], "stoker-direct": []}
    writes: dict[str, Counter[str]] = {}
    async with KubeClient.from_kubeconfig(lab.kubeconfig, user_agent="stoker-bench") as kube:
        for _ in range(rounds):
            for contender, taken in rows.items():
                prefix = f"{contender}-{uuid.uuid4().hex[:5]}"
                offset = lab.audit_log.stat().st_size
                if contender == "plain":
                    path = "/apis/batch/v1/namespaces/default/jobs"
                    row = await measure(kube, path, lambda name: plain_job(name, image), plain_is_done, prefix, jobs)
                else:
                    path = "/apis/stoker.dev/v1alpha1/namespaces/default/trainingjobs"
                    direct = contender == "stoker-direct"
                    with sealing(lab, direct=direct):
                        row = await measure(
                            kube,
                            path,
                            lambda name, direct=direct: training_job(name, image, ends_by_itself=direct),
                            training_is_done,
                            prefix,
                            jobs,
                        )
                taken.append(row)
                writes[contender] = writes_by_agent(lab.audit_log, offset)
                print(f"{contender:14} {row}", file=sys.stderr, flush=True)
                lab.kubectl("delete", "trainingjobs", "--all", "--wait=true")
                lab.kubectl("delete", "jobs", "--all", "--cascade=foreground", "--wait=true")
    rate = {contender: statistics.median(row["perSecond"] for row in taken) for contender, taken in rows.items()}
    return {
        "jobs": jobs, "rounds": rows, "perSecond": rate,
        "ratioToPlain": {contender: round(rate[contender] / rate["plain"], 2) for contender in ("stoker", "stoker-direct")},
        "writes": {contender: dict(counted) for contender, counted in writes.items()},
        "operatorWritesPerJob": {
            contender: round(sum(n for what, n in writes[contender].items() if what.startswith("stoker-operator") and counts_against_a_job(what)) / jobs, 3)
            for contender in ("stoker", "stoker-direct")
        },
    }  # fmt: skip


def counts_against_a_job(what: str) -> bool:
    """Writes that count against a job: on the job, its children, and Events about it (docs/explanation/lifecycle.md)."""
    return what.split()[-1].split("/")[0] in ("trainingjobs", "jobs", "services", "pods", "events")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lab", default="stoker-bench")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    arguments = parser.parse_args()
    lab = embedded.up(arguments.lab, nodes=1, progress=lambda line: print(line, file=sys.stderr))
    try:
        install(lab, progress=lambda line: print(line, file=sys.stderr))
        lab.kubectl(
            "apply",
            "-f",
            "-",
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests(arguments.jobs)}),
        )
        lab.kubectl(
            "wait",
            f"nodepools.lab.stoker.dev/{POOL}",
            f"--for=jsonpath={{.status.readyReplicas}}={arguments.jobs}",
            "--timeout=300s",
        )
        result = asyncio.run(run(lab, arguments.jobs, arguments.rounds, lab.images["base"]))
    finally:
        if not arguments.keep:
            embedded.down(arguments.lab)
    if arguments.output == "json":
        print(json.dumps(result, indent=2))
    else:
        for contender, rate in result["perSecond"].items():
            print(f"{contender:14} {rate:7.1f} jobs/s   {result['ratioToPlain'].get(contender, 1.0):5.2f} of plain")
        print(f"operator writes per job: {result['operatorWritesPerJob']}")


if __name__ == "__main__":
    main()
