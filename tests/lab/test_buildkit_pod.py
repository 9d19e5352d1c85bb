"""A namespace's BuildKit as a pod of a real kubelet: it runs a step, and sleeps when it is told to."""

import asyncio
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from stoker.core.environment.buildkit import Daemons, objects
from stoker.images.build.log import Log
from stoker.images.steps.buildkit import Solve, docker_config, solve
from tests.support import buildkits, labs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]
NAME = os.environ.get("STOKER_LAB", "stoker-buildkit")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield labs.running(NAME, nodes=1)
    labs.end(NAME)


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return buildkits.image(lab)


def apply(lab: Lab, daemons: Daemons, replicas: int) -> None:
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": "stoker-privileged",
            "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
        },
    }
    for manifest in (space, *objects("default", daemons, replicas)):
        lab.kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=stoker",
            "-f",
            "-",
            input=json.dumps(manifest),
        )


def test_a_pod_of_its_own_runs_steps_and_sleeps(
    lab: Lab, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Privileged, for the lab's containerd 1.6 refuses `hostUsers: false`: the runtime does not support user namespaces."""
    monkeypatch.setenv("PATH", f"{lab.bin}:{os.environ['PATH']}")
    daemons = Daemons(enabled=True, image=image, isolation="Privileged", registries={lab.registry: ("", True)})
    apply(lab, daemons, 1)
    within = ("-n", "stoker-privileged")
    lab.kubectl(*within, "rollout", "status", "statefulset/buildkit-default", "--timeout=120s")
    address = lab.kubectl(*within, "get", "pod", "buildkit-default-0", "-o", "jsonpath={.status.podIP}")
    (tmp_path / "context").mkdir()
    log = io.StringIO()
    wanted = Solve(
        base=lab.images["busybox"],
        steps=("RUN echo in a pod && echo 1 > /made",),
        platform="linux/amd64",
        target=f"{lab.registry}/steps/environments:1",
        address=f"tcp://{address}:1234",
        context=tmp_path / "context",
        work=tmp_path,
        docker_config=docker_config(tmp_path / "docker", [], {}),
        insecure=True,
    )

    digest = asyncio.run(solve(wanted, Log(log)))

    assert digest.startswith("sha256:")
    assert "  in a pod" in log.getvalue()

    apply(lab, daemons, 0)
    lab.kubectl(*within, "wait", "--for=delete", "pod/buildkit-default-0", "--timeout=60s")
    assert "0" == lab.kubectl(*within, "get", "statefulset", "buildkit-default", "-o", "jsonpath={.spec.replicas}")
