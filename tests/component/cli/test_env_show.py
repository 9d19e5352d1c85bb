"""What is shown of an Environment and its builds, on an API server that the test plays and Stoker's real server."""

from typing import Any

from stoker.storage import layout
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


def test_the_newest_try_is_printed_and_how_to_see_the_others(world: World) -> None:
    key, moments = "a" * 64, ("2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z")
    put(world, "torch", image())
    for number, moment in enumerate(moments, 1):
        world.put(layout.try_log(key, moment), f"try {number}: no route\n".encode())
    world.put(layout.build_log(key), b"solve 12 packages\n")

    newest = world.cli("env", "logs", "torch")
    assert "solve 12 packages\n" == newest.stdout
    assert (
        f"this was try 3; the logs of the others are kept: --try 1 ({moments[0]}), --try 2 ({moments[1]})"
        in newest.stderr
    )
    second = world.cli("env", "logs", "torch", "--try", "2")
    assert ("try 2: no route\n", "") == (second.stdout, second.stderr)
    assert [*moments, ""] == [one["startedAt"] for one in world.cli.json("env", "logs", "torch")["tries"]]


def test_a_try_that_is_not_kept_is_told_with_those_that_are(world: World) -> None:
    put(world, "torch", image())
    world.put(layout.build_log("a" * 64), b"solve 12 packages\n")

    only = world.cli("env", "logs", "torch")
    missing = world.cli("env", "logs", "torch", "--try", "2", code=2)

    assert ("solve 12 packages\n", "") == (only.stdout, only.stderr)
    assert "--try: 2: 1 try is kept of torch; ask for --try 1" in missing.stderr
    assert "leave out -f" in world.cli("env", "logs", "torch", "--try", "1", "-f", code=2).stderr
