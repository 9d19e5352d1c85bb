"""`make demo`: the main job of Stoker, on a real cluster, from nothing to nothing.

By default on the embedded one-machine Kubernetes (`lab/`), which is built, started, used and ended. With CONTEXT (a kubeconfig context) and REGISTRY it uses
that cluster instead. KEEP=1 leaves everything running.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lab as embedded  # noqa: E402
from tools import images  # noqa: E402

Progress = Callable[[str], None]
POOL = "demo"
IDLE_SECONDS = 5


class Cluster(Protocol):
    """A cluster that the demo can use: its command-line tools."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, input: str | None = None) -> str: ...
    def helm(self, *arguments: str) -> str: ...


def install(lab: embedded.Lab, progress: Progress = print) -> Mapping[str, str]:
    """Build Stoker's images, push them to the lab's registry and install the chart; the images' references by target."""
    built = images.lab_images(lab, progress=progress)
    values = {
        "image": {"repository": f"{lab.registry}/stoker", "references": dict(built)},
        "storage": {
            "url": f"s3://{lab.s3.bucket}",
            "endpoint": lab.s3.endpoint,
            "region": lab.s3.region,
            "accessKey": lab.s3.access_key,
            "secretKey": lab.s3.secret_key,
        },
        "insecureRegistries": [lab.registry],
        "rbac": {"scaleResources": [{"apiGroup": "lab.stoker.dev", "resources": ["nodepools"]}]},
    }
    file = lab.state_dir / "stoker-values.json"
    file.write_text(json.dumps(values))
    lab.helm(
        "upgrade",
        "--install",
        "stoker",
        str(ROOT / "charts" / "stoker"),
        "-n",
        "stoker-system",
        "--create-namespace",
        "-f",
        str(file),
        "--wait",
        "--timeout",
        "120s",
    )
    return built


def pool_manifests(name: str, *, most: int, idle_seconds: int) -> list[dict[str, Any]]:
    """A pool of zero real nodes in the lab, and the ComputeCluster that scales it."""
    return [
        {
            "apiVersion": "lab.stoker.dev/v1",
            "kind": "NodePool",
            "metadata": {"name": name},
            "spec": {
                "kind": "Real",
                "labels": {"stoker.dev/compute": name},
                "taints": [{"key": "stoker.dev/compute", "value": name, "effect": "NoSchedule"}],
            },
        },
        {
            "apiVersion": "stoker.dev/v1alpha1",
            "kind": "ComputeCluster",
            "metadata": {"name": name},
            "spec": {
                "provider": {
                    "type": "Scale",
                    "scale": {
                        "apiVersion": "lab.stoker.dev/v1",
                        "kind": "NodePool",
                        "name": name,
                        "nodeSelector": {"lab.stoker.dev/nodepool": name},
                    },
                },
                "instanceTypes": [{"name": "small", "resources": {"cpu": "1", "memory": "2Gi"}}],
                "maxInstances": most,
                "idleSecondsBeforeScaleDown": idle_seconds,
                "allowedNamespaces": {},
            },
        },
    ]


@dataclass
class Timeline:
    """What took how long, in the order in which it happened."""

    rows: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        say(f"\n== {name}")
        started = time.monotonic()
        yield
        self.rows.append((name, time.monotonic() - started))

    def show(self) -> None:
        say("\n== timeline")
        for name, seconds in self.rows:
            say(f"  {name:<44} {seconds:7.1f} s")
        say(f"  {'in all':<44} {sum(seconds for _, seconds in self.rows):7.1f} s")


def say(line: str) -> None:
    print(line, flush=True)


def stoker(cluster: Cluster, *arguments: str) -> None:
    """Run `stoker …` so that the reader sees what it prints; raises CalledProcessError when it fails."""
    say(f"$ stoker {' '.join(arguments)}")
    subprocess.run(
        [sys.executable, "-m", "stoker.cli", *arguments],
        cwd=ROOT,
        check=True,
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
    )


def apply(cluster: Cluster, manifests: list[dict[str, Any]]) -> None:
    for manifest in manifests:
        say(f"$ kubectl apply {manifest['kind']}/{manifest['metadata']['name']}")
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


def wait_for_zero(cluster: Cluster, pool: str, seconds: float = 120) -> None:
    """Show the pool's node counts as they change, until it has none; raises TimeoutError."""
    deadline, shown = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        status = json.loads(cluster.kubectl("get", "computecluster", pool, "-o", "json")).get("status", {})
        nodes = cluster.kubectl("get", "nodes", "-l", f"stoker.dev/compute={pool}", "-o", "name").split()
        line = f"  {pool}: {len(nodes)} node(s), target {status.get('targetNodes', 0)}, {status.get('allocationState', '')}"
        if line != shown:
            say(line)
            shown = line
        if not nodes:
            return
        time.sleep(0.5)
    raise TimeoutError(f"pool {pool} still has nodes after {seconds:.0f} s: {nodes}")


def train(cluster: Cluster, timeline: Timeline, image: str, manifests: list[dict[str, Any]]) -> None:
    """The user's part: a pool, an environment, a job, its outputs."""
    environment = {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": "iris", "namespace": "default"},
        "spec": {"image": image, "pip": ["scikit-learn"]},
    }
    with timeline.phase("a pool of zero nodes and an environment"):
        apply(cluster, [*manifests, environment])
        say(cluster.kubectl("get", "computeclusters").rstrip())
    with timeline.phase("train examples/iris on it"):
        stoker(cluster, "run", "examples/iris", "--compute", POOL, "--environment", "iris", "-y")
    with timeline.phase("what was saved"):
        stoker(cluster, "show", "@last")
        say(cluster.kubectl("get", "trainingjobs").rstrip())
    with timeline.phase("the pool returns to zero"):
        wait_for_zero(cluster, POOL)
        say(cluster.kubectl("get", "computeclusters").rstrip())


def on_the_embedded_cluster(keep: bool) -> None:
    timeline = Timeline()
    name = os.environ.get("STOKER_LAB", "stoker-demo")
    try:
        with timeline.phase("a Kubernetes of our own"):
            cluster = embedded.up(name, nodes=1, progress=say)
        with timeline.phase("Stoker's images and its Helm chart"):
            install(cluster, progress=say)
        train(cluster, timeline, cluster.images["base"], pool_manifests(POOL, most=2, idle_seconds=IDLE_SECONDS))
        timeline.show()
    finally:
        if keep:
            say(
                f"\nleft running. export KUBECONFIG={embedded.Lab.load(name).kubeconfig}; end it with: python -m lab down --name {name}"
            )
        else:
            say("\n== ending the embedded cluster")
            embedded.down(name)


def main() -> int:
    keep = os.environ.get("KEEP", "") not in ("", "0")
    try:
        on_the_embedded_cluster(keep)
    except subprocess.CalledProcessError as error:
        say(f"\nthe demo stopped: {' '.join(map(str, error.cmd))} ended with {error.returncode}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
