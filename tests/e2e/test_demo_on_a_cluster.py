"""`make demo CONTEXT=… REGISTRY=…` on a cluster that is not ours: everything by its kubeconfig and PATH, and nothing left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Lab
from tests.support import labs
from tools import images

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def someones() -> Lab:
    """A cluster without Stoker."""
    return labs.running("stoker-context", nodes=1)


def demo(lab: Lab, repository: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The demo on the lab as on any cluster: a kubeconfig, tools on PATH, a registry over http, an offline build."""
    return subprocess.run(
        [sys.executable, "tools/demo.py"],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        env={
            **os.environ,
            "COLUMNS": "120",
            "KUBECONFIG": str(lab.kubeconfig),
            "PATH": f"{lab.bin}{os.pathsep}{os.environ['PATH']}",
            "BUILDKIT_HOST": f"unix://{lab.state_dir}/buildkit.sock",
            "CONTEXT": "lab",
            "REGISTRY": f"{lab.registry}/someone",
            "INSECURE_REGISTRY": "1",
            "PYTHON_IMAGE": lab.images["base"],
            "GOLANG_IMAGE": lab.images["base"],
            "WHEELS": str(images.wheels(lambda line: None)),
            "VERSITYGW": str((lab.bin / "versitygw").resolve().parent),
            "DISTRIBUTION": str((lab.bin / "registry").resolve().parent),
            "BUILDCTL": str((lab.bin / "buildctl").resolve().parent),
            "PYPI_MIRROR": lab.packages(lambda line: None).pypi,
            "KEEP": "",
            **variables,
        },
    )


def named(lab: Lab, kind: str) -> set[str]:
    return set(lab.kubectl("get", kind, "-o", "name").split())


def test_the_demo_trains_on_someones_cluster_and_leaves_the_crds_alone(someones: Lab, repository: Path) -> None:
    kinds = ("namespaces", "clusterroles", "clusterrolebindings", "persistentvolumes", "nodes")
    before = {kind: named(someones, kind) for kind in kinds}

    done = demo(someones, repository)

    assert done.returncode == 0, done.stdout
    assert "accuracy" in done.stdout
    assert "model.pkl" in done.stdout
    assert "Stoker owns no node here" in done.stdout
    assert "== timeline" in done.stdout
    after = {kind: named(someones, kind) for kind in kinds}
    assert after == before
    crds = named(someones, "crds")
    assert "customresourcedefinition.apiextensions.k8s.io/trainingjobs.stoker.dev" in crds
    assert named(someones, "computeclusters") == set()
    assert named(someones, "trainingjobs") == set()


def test_the_demo_does_not_touch_a_stoker_that_is_there(someones: Lab, repository: Path) -> None:
    someones.kubectl("create", "namespace", "stoker-system")
    someones.kubectl("create", "deployment", "stoker-operator", "-n", "stoker-system", "--image=x", "--replicas=0")
    try:
        done = demo(someones, repository)
    finally:
        someones.kubectl("delete", "namespace", "stoker-system")

    assert done.returncode == 1
    assert "Stoker is installed in this cluster already" in done.stdout
    assert "removing" not in done.stdout
