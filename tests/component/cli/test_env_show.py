"""What is shown of an Environment, on an API server that the test plays."""

from typing import Any

from tests.component.cli.test_cluster_run import World
from tests.component.cli.test_cluster_run import world as world
from tests.support.apiserver import JOBS

ENVIRONMENTS = JOBS.replace("trainingjobs", "environments")
KEY = "sha256:" + "c" * 64
PLACE = "registry.example.com/ml/team/environments"


def put(world: World, name: str, *images: dict[str, Any], ready: str = "True", reason: str = "Built") -> None:
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": ""}
    body = {
        "metadata": {"name": name, "namespace": "team", "generation": 1},
        "spec": {"image": "python:3.12", "pip": ["numpy"]},
        "status": {"observedGeneration": 1, "images": list(images), "conditions": [condition]},
    }
    world.api.put(f"{ENVIRONMENTS}/{name}", body)


def image(**more: Any) -> dict[str, Any]:
    return {
        "platform": "linux/amd64", "specKey": "a" * 64, "image": f"{PLACE}@sha256:{'b' * 64}", "source": "built", **more,
    }  # fmt: skip


def test_an_image_is_shown_with_the_key_that_signed_it(world: World) -> None:
    put(world, "signed", image(signedBy=KEY))
    put(world, "bare", image())

    assert f"  signed by     {KEY}\n" in world.cli("env", "show", "signed").stdout
    assert KEY == world.cli.json("env", "show", "signed")["images"][0]["signedBy"]
    assert "signed by" not in world.cli("env", "show", "bare").stdout
