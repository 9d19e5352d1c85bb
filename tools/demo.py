"""`make demo`: the main job of Stoker, on a real cluster, from nothing to nothing.

By default on the embedded one-machine Kubernetes (`lab/`), which is built, started, used and ended. With CONTEXT (a
kubeconfig context) and REGISTRY (where images are pushed, and from where the nodes pull them) it uses that cluster
instead, by kubectl, helm and an image builder from PATH, and removes at its end what it made there. KEEP=1 leaves
everything. PYPI_MIRROR: URL of the simple index from which the nodes install packages, where pypi.org is out of reach.
INSECURE_REGISTRY=1, BUILDER, PYTHON_IMAGE, GOLANG_IMAGE, WHEELS, VERSITYGW, DISTRIBUTION, BUILDCTL: as in images.py.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lab as embedded  # noqa: E402
from lab.lab import announce  # noqa: E402
from tools import chart, images, your_cluster  # noqa: E402
from tools.chart import Cluster, ClusterError  # noqa: E402

Progress = Callable[[str], None]
POOL = "demo"
IDLE_SECONDS = 5


@dataclass(frozen=True)
class Place:
    """Where the user's part happens: a cluster, a namespace in it, and how `stoker` finds both."""

    cluster: Cluster
    namespace: str = "default"
    flags: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def install(
    lab: embedded.Lab, progress: Progress = print, *, operators: int = 1, bundled_registry: bool = False
) -> Mapping[str, str]:
    """Build Stoker's images, push them to the lab's registry and install the chart; the images' references by target.

    bundled_registry: bring the chart's own registry too.
    """
    built = images.lab_images(lab, progress=progress)
    index = lab.packages(progress)
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
        "registry": {"url": f"{lab.registry}/environments"},
        "mirrors": {"pypi": index.pypi, "conda": {"lab": index.channel}, "python": index.pythons},
        "builder": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}},
        "bundledRegistry": {
            "mode": "Always" if bundled_registry else "Never",
            # The nodes of all labs share this machine's loopback: each lab has a port of its own.
            "port": 25000 + int(lab.bridge_address.split(".")[1]),
        },
        # One node cannot fail over to another, so one operator is enough unless a test is about two.
        "operator": {"replicas": operators},
        "rbac": {"scaleResources": [{"apiGroup": "lab.stoker.dev", "resources": ["nodepools"]}]},
    }
    chart.install(lab, values)
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


def stoker(place: Place, *arguments: str) -> None:
    """Run `stoker …` so that the reader sees what it prints; raises CalledProcessError when it fails."""
    words = [*arguments, *place.flags]
    say(f"$ stoker {' '.join(words)}")
    subprocess.run(
        [sys.executable, "-m", "stoker.cli", *words],
        cwd=ROOT,
        check=True,
        env={**os.environ, **place.variables},
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


def wait_until_unused(cluster: Cluster, pool: str, seconds: float = 120) -> None:
    """The same for a pool of type External, which has no nodes to lose: until no job has any; raises TimeoutError."""
    deadline, shown = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        status = json.loads(cluster.kubectl("get", "computecluster", pool, "-o", "json")).get("status", {})
        line = f"  {pool}: {status.get('currentNodes', 0)} node(s) in use, {status.get('allocationState', '')}"
        if line != shown:
            say(line)
            shown = line
        if not status.get("currentNodes"):
            say(
                "  Stoker owns no node here (provider External): the nodes stay, or your autoscaler takes the empty ones."
            )
            return
        time.sleep(0.5)
    raise TimeoutError(f"pool {pool} still has {status.get('currentNodes')} node(s) in use after {seconds:.0f} s")


def train(
    place: Place,
    timeline: Timeline,
    image: str,
    manifests: list[dict[str, Any]],
    to_zero: Callable[[Cluster, str], None] = wait_for_zero,
) -> None:
    """The user's part: a pool, an environment, a job, its outputs."""
    cluster = place.cluster
    environment = {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": "iris", "namespace": place.namespace},
        "spec": {"image": image, "pip": ["scikit-learn"]},
    }
    with timeline.phase("a pool of zero nodes and an environment"):
        apply(cluster, [*manifests, environment])
        say(cluster.kubectl("get", "computeclusters").rstrip())
    with timeline.phase("train examples/iris on it"):
        stoker(place, "run", "examples/iris", "--compute", POOL, "--environment", "iris", "-y")
    with timeline.phase("what was saved"):
        stoker(place, "show", "@last")
        say(cluster.kubectl("get", "trainingjobs", "-n", place.namespace).rstrip())
    with timeline.phase("the pool returns to zero"):
        to_zero(cluster, POOL)
        say(cluster.kubectl("get", "computeclusters").rstrip())


@contextmanager
def ended_by(end: Callable[[], None], otherwise: str) -> Iterator[None]:
    """Do `end` after the block, whatever happened in it; say what to do otherwise when that is interrupted or fails."""
    try:
        yield
    finally:
        try:
            end()
        except (KeyboardInterrupt, ClusterError, embedded.LabError):
            say(f"\nnot all was removed; to remove the rest:\n{otherwise}")
            raise


def on_the_embedded_cluster(keep: bool) -> None:
    timeline = Timeline()
    name = os.environ.get("STOKER_LAB", "stoker-demo")
    say("== what this changes on this machine")
    announce(name, progress=lambda line: say(f"  {line}"))

    def end() -> None:
        if not keep:
            say("\n== ending the embedded cluster")
            embedded.down(name)
            return
        try:
            kubeconfig = embedded.Lab.load(name).kubeconfig
        except embedded.LabError:
            return
        say(f"\nleft running. export KUBECONFIG={kubeconfig}; end it with: make lab-down LAB={name}")

    with ended_by(end, f"  make lab-down LAB={name}"):
        with timeline.phase("a Kubernetes of our own"):
            cluster = embedded.up(name, nodes=1, progress=say)
        with timeline.phase("Stoker's images and its Helm chart"):
            install(cluster, progress=say)
        place = Place(cluster, variables={"KUBECONFIG": str(cluster.kubeconfig)})
        train(place, timeline, cluster.images["base"], pool_manifests(POOL, most=2, idle_seconds=IDLE_SECONDS))
        timeline.show()


def on_your_cluster(context: str, registry: str, mirror: str, keep: bool) -> None:
    if not (context and registry):
        raise ClusterError(
            f"{'REGISTRY' if context else 'CONTEXT'} is missing: "
            "make demo CONTEXT=(a context of your kubeconfig) REGISTRY=registry.example.com/stoker"
        )
    timeline = Timeline()
    cluster = your_cluster.reach(context)
    your_cluster.refuse_to_disturb(cluster, POOL)
    kinds = your_cluster.architectures(cluster)
    how = images.Building.of(os.environ, platform=",".join(f"linux/{kind}" for kind in kinds))
    tag = images.tag_of_sources(how)
    removed = "removed again at the end" if not keep else "left there by KEEP=1"
    say(
        f"== what this changes\n"
        f"  cluster    context {context}: Stoker's CRDs (they stay), a release in {chart.NAMESPACE}, a pool {POOL}, "
        f"a namespace {your_cluster.NAMESPACE}; {removed}\n"
        f"  registry   {registry}/{{{','.join([*images.TARGETS, 'example'])}}}:{tag} (they stay)"
    )
    with timeline.phase("Stoker's images, built and pushed"):
        built = images.build(registry, tag, how, example=True, progress=lambda line: say(f"  {line}"))

    def end() -> None:
        if keep:
            say(f"\nleft in the cluster; remove it with:\n{your_cluster.by_hand(cluster, POOL)}")
            return
        say("\n== removing what the demo made in the cluster")
        your_cluster.remove(cluster, say)
        say("  kept: Stoker's CRDs in the cluster, the images in the registry")

    with ended_by(end, your_cluster.by_hand(cluster, POOL)):
        with timeline.phase("Stoker's Helm chart"):
            your_cluster.make_namespaces(cluster)
            volume = your_cluster.has_default_storage_class(cluster)
            if not volume:
                say("  no default StorageClass: the try-out store keeps its data in its pod")
            values = your_cluster.chart_values(registry, tag, mirror, insecure=how.insecure, volume=volume)
            # A cluster of someone's may have to bring nodes and pull over a slow line.
            chart.install(cluster, values, seconds=300)
        place = Place(cluster, your_cluster.NAMESPACE, ("--context", context, "-n", your_cluster.NAMESPACE))
        pool = your_cluster.pool_manifest(POOL, most=2, architecture=kinds[0])
        train(place, timeline, built["example"], [pool], wait_until_unused)
        timeline.show()


def main() -> int:
    keep = os.environ.get("KEEP", "") not in ("", "0")
    context, registry = os.environ.get("CONTEXT", ""), os.environ.get("REGISTRY", "")
    try:
        if context or registry:
            on_your_cluster(context, registry, os.environ.get("PYPI_MIRROR", ""), keep)
        else:
            on_the_embedded_cluster(keep)
    except KeyboardInterrupt:
        say("\nthe demo was interrupted")
        return 130
    except subprocess.CalledProcessError as error:
        say(f"\nthe demo stopped: {' '.join(map(str, error.cmd))} ended with {error.returncode}")
        return 1
    except (embedded.LabError, images.ImageError, ClusterError, TimeoutError) as error:
        say(f"\nthe demo stopped: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
