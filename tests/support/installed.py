"""The installed product on a real cluster, as its users see it: the CLI, kubectl, pools that boot real nodes."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import Lab
from tools import chart
from tools.demo import pool_manifests

#: Longest that anything here may take, in seconds; a test that waits longer has found a fault.
PATIENCE = 90


@dataclass
class Stoker:
    """Stoker on a lab, as a user sees it."""

    lab: Lab
    root: Path
    images: Mapping[str, str]

    def cli(
        self, *arguments: str, check: bool = True, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """`stoker …` with this cluster's kubeconfig; output is kept apart as stdout and stderr."""
        try:
            done = subprocess.run(
                [sys.executable, "-m", "stoker.cli", *arguments],
                cwd=cwd or self.root,
                capture_output=True,
                text=True,
                timeout=PATIENCE * 2,
                env={**os.environ, "KUBECONFIG": str(self.lab.kubeconfig), "COLUMNS": "120", **env},
            )
        except subprocess.TimeoutExpired as late:
            said = b"\n".join(text for text in (late.stdout, late.stderr) if text).decode(errors="replace")
            raise AssertionError(
                f"stoker {' '.join(arguments)} did not end in {late.timeout} s\n{said}\n{self.state()}"
            ) from None
        if check and done.returncode != 0:
            raise AssertionError(f"stoker {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def run(self, *arguments: str, check: bool = True) -> dict[str, Any]:
        """`stoker run … -o json`: the record."""
        done = self.cli("run", *arguments, "-y", "-o", "json", check=check)
        return {**json.loads(done.stdout), "log": done.stderr, "returncode": done.returncode}

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        self.lab.kubectl(
            "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        )

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.lab.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return value

    def state(self) -> str:
        """Who has the nodes and who waits for them: what a person would ask the cluster when a run does not end."""
        asked = (
            ("get", "trainingjobs,jobs,pods,nodes,nodepools", "-A", "-o", "wide"),
            ("get", "computeclusters", "-o", "yaml"),
            ("describe", "nodes", "-l", "lab.stoker.dev/nodepool"),
            ("logs", "-n", "stoker-system", "deployment/stoker-operator", "--tail=60"),
        )
        told = []
        for question in asked:
            try:
                told.append(self.lab.kubectl(*question))
            except Exception as error:  # One answer that cannot be had must not hide the others.
                told.append(f"kubectl {' '.join(question)}: {error}")
        return "\n\n".join(told)

    def items(self, kind: str, selector: str, namespace: str = "default") -> list[dict[str, Any]]:
        """The objects of a kind that a label selector picks."""
        listed: list[dict[str, Any]] = json.loads(
            self.lab.kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json")
        )["items"]
        return listed

    @contextmanager
    def settings(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Other values of the chart while the block runs, upon those that it was installed with."""
        wait = ("-n", chart.NAMESPACE, "--wait", "--timeout", f"{PATIENCE}s")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            self.lab.helm("upgrade", chart.RELEASE, str(chart.CHART), "--reuse-values", "-f", file.name, *wait)
        try:
            yield
        finally:
            self.lab.helm("rollback", chart.RELEASE, *wait)

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace for the block. What follows its name is new each time: the registry of a lab that was kept remembers
        what former ones have built."""
        name = f"{name}-{secrets.token_hex(3)}"
        self.lab.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.lab.kubectl("delete", "namespace", name, "--wait=false")

    def manifest(self, image: str) -> bytes:
        """The manifest of an image in the lab's registry, named by tag or digest, as it lies there."""
        name, _, target = image.partition("@") if "@" in image else image.rpartition(":")
        host, _, repository = name.partition("/")
        request = urllib.request.Request(
            f"http://{host}/v2/{repository}/manifests/{target}",
            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def objects(self, url: str) -> dict[str, bytes]:
        """Every object below a storage URL, read past Stoker, with the store's own credentials."""
        client, bucket = self._store(), url.removeprefix("s3://").partition("/")[0]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in self.keys(url)}

    def keys(self, url: str) -> list[str]:
        """The keys of every object below a storage URL. Objects may go at any time: who reads them all wants `objects`."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        pages = self._store().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def _store(self) -> Any:
        import boto3

        s3 = self.lab.s3
        return boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name=s3.region,
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
        )

    def seal(self, status: Mapping[str, Any], *, attempt: int, rank: int = 0) -> dict[str, Any]:
        """The seal of a rank, as it lies in the store. status: of its TrainingJob."""
        key = f"{status['logs'].rpartition('/attempts/')[0]}/attempts/{attempt}/{rank}/seal.json"
        (content,) = self.objects(key).values()
        found: dict[str, Any] = json.loads(content)
        return found

    def until(
        self,
        kind: str,
        name: str,
        holds: Callable[[dict[str, Any]], bool],
        *,
        namespace: str = "default",
        seconds: float = PATIENCE,
    ) -> dict[str, Any]:
        """The object, once `holds` is true of it; the last state seen is told when it never is."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self.get(kind, name, namespace)
            if holds(seen):
                return seen
            if time.monotonic() > deadline:
                status = json.dumps(seen.get("status"), indent=1)
                raise AssertionError(f"{kind}/{name} after {seconds} s:\n{status}\n{self.state()}")
            time.sleep(0.1)

    def finished(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """The TrainingJob's status once it has ended."""
        seen = self.until(
            "trainingjob",
            name,
            lambda job: job["status"]["phase"] in ("Completed", "Failed", "Canceled"),
            namespace=namespace,
        )
        status: dict[str, Any] = seen["status"]
        return status

    def pool(
        self, name: str, *, most: int = 2, idle: int = 20, machines: Mapping[str, Any] | None = None, **spec: Any
    ) -> None:
        """A pool of real nodes that starts at zero, and its ComputeCluster. machines: more members of the NodePool's spec;
        spec: members of the ComputeCluster's."""
        nodes, cluster = pool_manifests(name, most=most, idle_seconds=idle)
        nodes["spec"].update(machines or {})
        cluster["spec"].update(spec)
        self.apply(nodes, cluster)

    def ever_booted(self, pool: str) -> int:
        """How many machines a pool has brought since it was made: their numbers are never used twice."""
        return int(self.get("nodepools.lab.stoker.dev", pool)["status"]["lastIndex"]) + 1

    def pool_nodes(self, name: str) -> list[str]:
        listed = self.lab.kubectl("get", "nodes", "-l", f"lab.stoker.dev/nodepool={name}", "-o", "name")
        return [line.removeprefix("node/") for line in listed.split()]

    def until_empty(self, pool: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while nodes := self.pool_nodes(pool):
            if time.monotonic() > deadline:
                raise AssertionError(f"pool {pool} still has {nodes} after {seconds} s\n{self.state()}")
            time.sleep(0.5)


def training_job(
    name: str,
    command: str,
    *,
    image: str,
    compute: str,
    files: Mapping[str, str] | None = None,
    namespace: str = "default",
    nodes: int = 1,
    pip: Sequence[str] = (),
    **spec: Any,
) -> dict[str, Any]:
    """A TrainingJob's manifest with inline code, in its ordinary form."""
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "compute": compute,
            "command": {
                "command": command,
                "environment": {"spec": {"image": image, "pip": list(pip)}},
                **({"code": {"inline": dict(files)}} if files else {}),
                "resources": {"instanceCount": nodes},
            },
            **spec,
        },
    }
