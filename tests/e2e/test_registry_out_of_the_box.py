"""With no registry of one's own: the chart's is reached by every node, it says so itself, and jobs run from it."""

import json

import pytest

from lab import images
from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def host(stoker: Stoker) -> str:
    """What nodes call the registry that the chart brought."""
    proxy = stoker.get("daemonset", "stoker-registry-proxy", "stoker-privileged")
    (container,) = proxy["spec"]["template"]["spec"]["containers"]
    return str(next(word for word in container["args"] if word.startswith("--listen=")).removeprefix("--listen="))


def test_the_install_says_by_itself_that_nodes_can_pull(stoker: Stoker, host: str) -> None:
    def told(config: dict) -> dict:
        listed = json.loads((config.get("data") or {}).get("checks", "[]"))
        return {one["registry"].partition("/")[0]: (one["state"], one["reason"]) for one in listed}

    stoker.until(
        "configmap", "stoker-registry-check", lambda config: told(config).get(host) == ("Ok", "Pulled"),
        namespace="stoker-system",
    )  # fmt: skip

    checks = json.loads(stoker.cli("doctor", "-o", "json", check=False).stdout)["checks"]
    assert ["ok"] == [one["state"] for one in checks if one["what"] == "registry" and host in one["detail"]]
    assert [] == stoker.items("pods", "app.kubernetes.io/component=registry-check", "stoker-system")


def test_a_job_runs_from_an_image_that_only_the_chart_s_registry_has(stoker: Stoker, cpu: str, host: str) -> None:
    """Pushed by the Service's address, looked up by the operator, pulled on a pool's node by the node's own name."""
    service = stoker.get("service", "stoker-registry", "stoker-system")["spec"]["clusterIP"]
    layer = images.busybox_layer(stoker.lab.state_dir / "busybox")
    pushed = images.push(f"{service}:5000", "e2e/busybox", "1", layer, {"Cmd": ["/bin/sh"]})
    digest = pushed.partition("@")[2]

    stoker.apply(training_job("from-the-bundle", "echo it runs", image=f"{host}/e2e/busybox:1", compute=cpu))
    status = stoker.finished("from-the-bundle")

    assert "Completed" == status["phase"]
    assert f"{host}/e2e/busybox@{digest}" == status["environment"]["image"]
    uid = stoker.get("trainingjob", "from-the-bundle")["metadata"]["uid"]
    nodes = {pod["spec"]["nodeName"] for pod in stoker.items("pods", f"stoker.dev/job-uid={uid}")}
    assert 1 == len(nodes & set(stoker.pool_nodes(cpu)))


def test_an_environment_is_built_into_it_and_runs_from_it(stoker: Stoker, cpu: str, host: str) -> None:
    """The build pushes to the Service; what it made is named, and pulled, as nodes know it."""
    stoker.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bundled"}})
    stoker.apply(
        {
            "apiVersion": "stoker.dev/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": "default", "namespace": "bundled"},
            "spec": {"registry": {"url": f"{host}/bundled"}},
        }
    )
    base = stoker.lab.images["base"]
    command = "python -c 'import stoker_tiny; print(stoker_tiny.__file__)'"

    stoker.apply(training_job("built", command, image=base, compute=cpu, namespace="bundled", pip=["stoker-tiny==1.0"]))
    status = stoker.finished("built", "bundled")

    assert "Completed" == status["phase"], status
    assert status["environment"]["image"].startswith(f"{host}/bundled/environments@sha256:")
    assert "built" == status["environment"]["source"]
