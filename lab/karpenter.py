"""Karpenter itself, in its build for kwok, beside a lab's control plane. It is built when first asked for: some minutes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import binaries, crds
from lab.host import free_port
from lab.lab import Lab, say

NODE_CLASS = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}
_CRDS = (
    "pkg/apis/crds/karpenter.sh_nodeclaims.yaml",
    "pkg/apis/crds/karpenter.sh_nodepools.yaml",
    "pkg/apis/crds/karpenter.sh_nodeoverlays.yaml",
    "kwok/apis/crds/karpenter.kwok.sh_kwoknodeclasses.yaml",
)


@contextmanager
def running(lab: Lab, log: Path, *, boot_seconds: int = 0) -> Iterator[int]:
    """Karpenter with its CRDs and a node class `default`, while the block runs; the process' id. Its machines and all its
    objects are gone afterwards. boot_seconds: between the launch of a machine and its Node."""
    program = binaries.ensure(say, (binaries.KARPENTER,))["karpenter"]
    files = [crds.module("sigs.k8s.io/karpenter") / file for file in _CRDS]
    with crds.installed(lab, files), _serving(lab, program, log, boot_seconds) as process:
        yield process


@contextmanager
def _serving(lab: Lab, program: Path, log: Path, boot_seconds: int) -> Iterator[int]:
    node_class = {
        "apiVersion": "karpenter.kwok.sh/v1alpha1",
        "kind": NODE_CLASS["kind"],
        "metadata": {"name": NODE_CLASS["name"]},
        "spec": {"nodeRegistrationDelay": f"{boot_seconds}s"} if boot_seconds else {},
    }
    lab.kubectl("apply", "-f", "-", input=json.dumps(node_class))
    env = {
        **os.environ, "KUBECONFIG": str(lab.kubeconfig), "DISABLE_LEADER_ELECTION": "true",
        "METRICS_PORT": str(free_port()), "HEALTH_PROBE_PORT": str(free_port()),
    }  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen([program], env=env, stdout=out, stderr=out)
        try:
            yield process.pid
        finally:
            # It has finalizers on claims: they go while it runs.
            lab.kubectl("delete", "nodepools.karpenter.sh", "--all", "--timeout=60s")
            lab.kubectl("delete", "nodeclaims.karpenter.sh", "--all", "--timeout=60s")
            process.terminate()
            process.wait(30)
