"""Kueue itself beside a lab's control plane. It is built when first asked for: 5 min on two idle cores."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lab import binaries, crds
from lab.certificates import Authority
from lab.host import free_port, wait_until, write_json
from lab.lab import Lab, say

#: Namespaces with this label are Kueue's to manage: there it holds Jobs without a queue too.
MANAGED = {"kueue-managed": "true"}
_KINDS = ("workloads", "localqueues", "clusterqueues", "admissionchecks", "resourceflavors", "workloadpriorityclasses")
_OTHERS = ("cohorts", "topologies", "multikueueclusters", "multikueueconfigs", "provisioningrequestconfigs")
#: The groups whose objects it is asked about: of the integrations only batch/job is on.
_GROUPS = {"batch", "kueue.x-k8s.io"}


@contextmanager
def running(lab: Lab, folder: Path) -> Iterator[int]:
    """Kueue with its CRDs and webhooks, while the block runs; the process' id. All its objects are gone afterwards.
    folder: for its settings and its log."""
    program = binaries.ensure(say, (binaries.KUEUE,))["kueue"]
    module = crds.module("sigs.k8s.io/kueue") / "config/components"
    files = [
        path
        for kind in (*_KINDS, *_OTHERS)
        for path in sorted((module / "crd/bases").glob(f"kueue.x-k8s.io_{kind}.yaml"))
    ]
    with crds.installed(lab, files), _serving(lab, program, module, folder) as process:
        yield process


@contextmanager
def _serving(lab: Lab, program: Path, module: Path, folder: Path) -> Iterator[int]:
    webhook_port, health_port = free_port(), free_port()
    config = folder / "kueue.yaml"
    write_json(config, _configuration(folder, webhook_port, health_port))
    authority = Authority(lab.state.certificates)
    pair = authority.issue("kueue", user="lab-kueue", group="system:masters", addresses=("IP:127.0.0.1",))
    kubeconfig = authority.kubeconfig(folder / "kubeconfig", lab.api_server, pair)
    # It looks for the certificate of its metrics in a folder that cannot be chosen: it sees one over the machine's /etc.
    metrics = folder / "etc/kueue/metrics/certs"
    for place in (folder / "certs", metrics):
        place.mkdir(parents=True)
        shutil.copy(pair.certificate, place / "tls.crt")
        shutil.copy(pair.key, place / "tls.key")
    over = f"mount -t overlay overlay -o lowerdir={folder / 'etc'}:/etc /etc"
    gates = "VisibilityOnDemand=false"
    command = f"{over} && exec {program} --config={config} --feature-gates={gates} --zap-log-level=2"
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", command],
            env={"KUBECONFIG": str(kubeconfig), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, stdout=out, stderr=out,
        )  # fmt: skip
        try:
            wait_until(lambda: _ready(health_port), what="a ready Kueue", seconds=60, log=folder / "log")
            hooks = list(_webhooks(module / "webhook/manifests.yaml", webhook_port, authority.pair.certificate))
            lab.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": hooks}))
            yield process.pid
        finally:
            # Its webhooks first: without it they would refuse every Job. Then what has its finalizers, while it runs.
            for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
                lab.kubectl("delete", kind, "lab-kueue", "--ignore-not-found")
            for kind in _KINDS:
                lab.kubectl("delete", f"{kind}.kueue.x-k8s.io", "--all", "-A", "--timeout=60s")
            process.terminate()
            process.wait(30)


def _configuration(folder: Path, webhook_port: int, health_port: int) -> dict[str, Any]:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health_port}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": webhook_port, "certDir": str(folder / "certs")},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "clientConnection": {"qps": 200, "burst": 400},
        "manageJobsWithoutQueueName": True,
        "managedJobsNamespaceSelector": {"matchLabels": MANAGED},
        "integrations": {"frameworks": ["batch/job"]},
    }


def _webhooks(manifests: Path, port: int, authority: Path) -> Iterator[dict[str, Any]]:
    """The module's own webhook configurations, for a Kueue that listens on this machine."""
    trusted = base64.b64encode(authority.read_bytes()).decode()
    for found in yaml.safe_load_all(manifests.read_text()):
        hooks = []
        for hook in found["webhooks"]:
            if not {group for rule in hook["rules"] for group in rule["apiGroups"]} <= _GROUPS:
                continue
            path = hook["clientConfig"]["service"]["path"]
            hooks.append({**hook, "clientConfig": {"url": f"https://127.0.0.1:{port}{path}", "caBundle": trusted}})
        yield {**found, "metadata": {"name": "lab-kueue"}, "webhooks": hooks}


def _ready(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
        return bool(answer.status == 200)
