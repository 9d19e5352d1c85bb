"""`stoker env ls`, `show`, `logs` and `build`: for people, for programs, and for a name that is not there."""

import json
import time
from typing import Any

import pytest

from stoker.storage import layout
from tests.component.cli.test_cluster_run import World
from tests.component.cli.test_cluster_run import world as world
from tests.support.apiserver import JOBS

ENVIRONMENTS = JOBS.replace("trainingjobs", "environments")
SPEC_KEY, DEFINITION_KEY, LOCK_KEY = "a" * 64, "d" * 64, "e" * 64
BASE = "docker.io/library/python@sha256:" + "1" * 64
IMAGE = {
    "platform": "linux/amd64", "specKey": SPEC_KEY, "lockKey": LOCK_KEY, "base": BASE, "source": "built", "buildSeconds": 7,
    "image": f"registry.example.com/ml/team/environments@sha256:{'b' * 64}", "digest": f"sha256:{'b' * 64}",
    "sizeBytes": 52_000_000,
}  # fmt: skip


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def put(world: World, name: str, *conditions: dict[str, str], generation: int = 1, **status: Any) -> None:
    made = {
        "metadata": {"name": name, "namespace": "team", "generation": generation},
        "spec": {"image": "python:3.12", "pip": ["numpy"]},
        "status": {"observedGeneration": 1, "conditions": list(conditions), **status},
    }
    world.api.put(f"{ENVIRONMENTS}/{name}", made)


def built(world: World, name: str = "torch") -> None:
    put(
        world, name, condition("Ready", "True", "Built"), definitionKey=DEFINITION_KEY, base=BASE, images=[IMAGE],
        lastUsed="2026-01-02T03:04:05Z", buildLog=f"environments/{SPEC_KEY}/build.log",
        build={"name": "senv-1", "tries": 2, "startedAt": "2026-01-02T03:00:00Z"},
    )  # fmt: skip


MISSING = 'no package "nump" in pip[0]; write another name'


def stalled(world: World, name: str = "broken") -> None:
    told = ("PackageNotFound", MISSING)
    put(world, name, condition("Ready", "False", *told), condition("Stalled", "True", *told), images=[
        {"platform": "linux/amd64", "specKey": SPEC_KEY}])  # fmt: skip


def test_ls_shows_each_environment_with_its_image_and_last_use(world: World) -> None:
    built(world)
    stalled(world)

    lines = world.cli("env", "ls").stdout.splitlines()

    assert ["NAME", "READY", "REASON", "KEY", "SOURCE", "SIZE", "LAST", "USED"] == lines[0].split()
    assert ["broken", "False", "PackageNotFound"] == lines[1].split()
    expected = ["torch", "True", "Built", DEFINITION_KEY[:12], "built", "52", "MB", "2026-01-02T03:04:05Z"]
    assert expected == lines[2].split()
    assert "broken\ntorch\n" == world.cli("env", "ls", "-o", "name").stdout


def test_ls_tells_programs_all_of_it(world: World) -> None:
    built(world)

    assert [
        {
            "name": "torch", "ready": "True", "reason": "Built", "message": "", "definitionKey": DEFINITION_KEY,
            "images": [IMAGE], "lastUsed": "2026-01-02T03:04:05Z",
        }
    ] == world.cli.json("env", "ls")  # fmt: skip


def test_ls_of_nothing_says_what_to_do(world: World) -> None:
    done = world.cli("env", "ls")

    assert ("", True) == (done.stdout, "no Environments here: kubectl apply one" in done.stderr)
    assert [] == world.cli.json("env", "ls")


@pytest.mark.parametrize("command", ["show", "logs", "build"])
def test_a_name_that_is_not_there_is_answered_with_those_that_are(world: World, command: str) -> None:
    built(world)

    failed = world.cli("env", command, "trch", code=2)

    assert "" == failed.stdout
    assert 'no Environment named "trch"; namespace team has: torch' in failed.stderr


def test_show_tells_keys_images_and_the_last_build(world: World) -> None:
    built(world)

    shown = {line[:16].strip(): line[16:].strip() for line in world.cli("env", "show", "torch").stdout.splitlines()}

    assert {
        "name": "torch", "ready": "True (Built)", "definitionKey": DEFINITION_KEY, "base": BASE,
        "last used": "2026-01-02T03:04:05Z", "specKey": SPEC_KEY, "lockKey": LOCK_KEY, "size": "52 MB", "built in": "7 s",
        "build": "Job senv-1, try 2, started 2026-01-02T03:00:00Z", "log": "stoker env logs torch",
    }.items() <= shown.items()  # fmt: skip
    value = world.cli.json("env", "show", "torch")
    assert ({"image": "python:3.12", "pip": ["numpy"]}, BASE, "senv-1") == (
        value["spec"], value["base"], value["build"]["name"],
    )  # fmt: skip
    assert "torch\n" == world.cli("env", "show", "torch", "-o", "name").stdout


def test_show_says_why_there_is_no_image(world: World) -> None:
    stalled(world)

    assert f"why             {MISSING}" in world.cli("env", "show", "broken").stdout
    assert MISSING == world.cli.json("env", "show", "broken")["message"]


def test_the_lock_is_what_the_build_stored(world: World) -> None:
    built(world)
    assert "no lock of torch is stored" in world.cli("env", "show", "torch", "--lock", code=2).stderr
    world.put(layout.lock(SPEC_KEY), b'{"packages": []}')

    assert {"packages": []} == json.loads(world.cli("env", "show", "torch", "--lock").stdout)
    wrong = world.cli("env", "show", "torch", "--lock", "--platform", "linux/arm64", code=2)
    assert "linux/arm64: Environment torch has linux/amd64" in wrong.stderr


def test_logs_print_what_is_stored_and_tell_it_to_programs(world: World) -> None:
    built(world)
    world.put(layout.build_log(SPEC_KEY), "solve 12 packages\n\N{CHECK MARK}\n".encode())

    assert "solve 12 packages\n\N{CHECK MARK}\n" == world.cli("env", "logs", "torch").stdout
    value = world.cli.json("env", "logs", "torch")
    assert ("torch", SPEC_KEY, "solve 12 packages\n\N{CHECK MARK}\n") == (
        value["name"],
        value["specKey"],
        value["text"],
    )


def test_logs_of_what_was_never_built_say_so(world: World) -> None:
    built(world)
    assert "no build of torch left a log here; its image was found, not built" in (
        world.cli("env", "logs", "torch", code=2).stderr
    )
    put(world, "given", condition("Ready", "True", "Resolved"), images=[{"platform": "linux/amd64", "image": BASE}])
    assert "Environment given has no build" in world.cli("env", "logs", "given", code=2).stderr


def test_build_of_what_has_its_image_ends_at_once(world: World) -> None:
    built(world)

    done = world.cli("env", "build", "torch")

    assert "" == done.stdout
    assert f"{IMAGE['image']}" in done.stderr
    assert "built in 7 s" in done.stderr
    assert [IMAGE] == world.cli.json("env", "build", "torch")["images"]


def test_a_namespace_that_is_not_there_is_not_an_empty_one(world: World) -> None:
    none = '--namespace: there is no namespace "nons"'

    assert none in world.cli("env", "ls", "-n", "nons", code=2).stderr
    assert none in world.cli("env", "show", "torch", "-n", "nons", code=2).stderr


def test_build_of_what_only_a_person_can_mend_ends_with_1(world: World) -> None:
    stalled(world)

    failed = world.cli("env", "build", "broken", code=1)

    assert ("", True) == (failed.stdout, f"PackageNotFound: {MISSING}" in failed.stderr)
    assert "to try it anew: stoker env build broken --again" in failed.stderr


def test_build_shows_the_log_as_it_grows_and_waits_for_the_image(world: World) -> None:
    running = condition("Ready", "False", "Building", "try 1 runs")
    put(world, "torch", running, images=[{"platform": "linux/amd64", "specKey": SPEC_KEY}])
    world.put(layout.build_log(SPEC_KEY), b"solve\n")
    process = world.cli.start("env", "build", "torch", "-o", "name")
    assert process.stderr is not None
    said = ""
    while "solve\n" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    world.put(layout.build_log(SPEC_KEY), b"solve\ndone\n")
    # The image comes when the log is whole.
    while "done\n" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    built(world)

    out, _ = process.communicate(timeout=30)

    assert (0, "torch\n", 1) == (process.returncode, out, said.count("solve\n"))
    assert "Building" in said


def test_an_old_status_does_not_end_a_build_of_a_new_spec(world: World) -> None:
    put(world, "torch", condition("Ready", "True", "Built"), generation=2, images=[IMAGE])
    process = world.cli.start("env", "build", "torch", "-o", "name")
    deadline = time.monotonic() + 20
    while sum(request.endswith("/environments/torch") for request in world.api.requests) < 3:
        assert time.monotonic() < deadline, process.communicate()
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    built(world)

    assert "torch\n" == process.communicate(timeout=30)[0]
