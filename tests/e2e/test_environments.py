"""An environment that nobody has is built in the cluster, once, and run by the jobs that asked for it."""

import json
import time

import pytest

from tests.support import signing_keys
from tests.support.installed import Stoker, training_job
from tests.support.lab_environments import (
    CODE,
    builds,
    environment,
    eventually,
    image,
    job,
    over,
    remove,
    told,
    waits_for,
    workspace,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", autouse=True)
def index(stoker: Stoker) -> None:
    stoker.lab.packages(lambda line: None)


def test_a_conda_and_pip_environment_is_built_and_run_by_a_job(stoker: Stoker, cpu: str) -> None:
    conda = {
        "channels": ["lab"],
        "dependencies": ["python=3.11", "tiny-conda=1.0", "pip", {"pip": ["stoker-tiny==1.0"]}],
    }
    stoker.apply(environment(stoker, "both", conda=conda), job("both-1", cpu, "both"))

    status = stoker.finished("both-1")

    assert ("Completed", "built") == (status["phase"], status["environment"]["source"]), status
    assert "/environments@sha256:" in status["environment"]["image"]
    assert "tiny 1.0 /opt/stoker/env" in stoker.cli("logs", "both-1").stdout
    found = image(stoker, "both")
    told_of = stoker.get("environment", "both")["status"]
    assert told_of["definitionKey"] == status["environment"]["definitionKey"]
    key = found["specKey"]
    assert f"environments/{key}/build.log" == told_of["buildLog"]
    # The log and the lock stay when pods and Jobs are gone.
    stoker.lab.kubectl("delete", "jobs", "-l", "stoker.dev/environment-build", "--wait=true")
    for shown in (("env", "logs", "both"), ("logs", "both-1", "--build")):
        assert "done" in stoker.cli(*shown).stdout
    lock = json.loads(stoker.cli("env", "show", "both", "--lock").stdout)
    assert "stoker-tiny" in json.dumps(lock)
    record = json.loads(stoker.cli("show", "both-1", "-o", "json").stdout)
    assert key in json.dumps(record), "the record names the environment"


def test_another_version_is_another_image_and_a_known_one_is_a_hit(stoker: Stoker) -> None:
    stoker.apply(environment(stoker, "edited", pip=["stoker-tiny==1.0"]))
    first = image(stoker, "edited")
    stoker.apply(environment(stoker, "edited", pip=["stoker-tiny==2.0"]))
    second = image(stoker, "edited")
    assert first["digest"] != second["digest"]

    stoker.apply(environment(stoker, "again", pip=["stoker-tiny == 1.0  # the same"]))
    third = image(stoker, "again")

    assert (first["digest"], first["specKey"]) == (third["digest"], third["specKey"])
    assert len(builds(stoker, first["specKey"])) <= 1
    assert 1 == stoker.cli("env", "logs", "again").stdout.count("\ndone")


def test_many_jobs_want_one_image_and_it_is_built_once(stoker: Stoker, cpu: str) -> None:
    spec = {"image": stoker.lab.images["base"], "pip": ["stoker-tiny==1.0"], "cacheEpoch": 7}
    names = [f"shared-{number}" for number in range(4)]
    for name in names:
        made = training_job(name, "python main.py", image="x", compute=cpu, files=CODE)
        made["spec"]["command"]["environment"] = {"spec": spec}
        stoker.apply(made)

    ended = [stoker.finished(name) for name in names]

    assert ["Completed"] * len(names) == [one["phase"] for one in ended]
    assert 1 == len({one["environment"]["image"] for one in ended})
    (key,) = {one["environment"]["specKey"] for one in ended}
    assert len(builds(stoker, key)) <= 1
    log = stoker.cli("logs", names[0], "--build").stdout
    assert 1 == log.count("\ndone")


def test_an_unsolvable_line_is_named_and_no_image_comes_of_it(stoker: Stoker) -> None:
    stoker.apply(environment(stoker, "unsolvable", pip=["stoker-tiny==1.0", "stoker-tiny-which-is-not-there==9"]))

    reason, message = told(stoker, "unsolvable")

    assert reason in ("PackageNotFound", "PipUnsatisfiable"), message
    assert "pip[1]" in message
    seen = stoker.get("environment", "unsolvable")["status"]["images"][0]
    assert "digest" not in seen
    failed = stoker.cli("env", "build", "unsolvable", check=False)
    assert 1 == failed.returncode
    assert reason in failed.stderr
    time.sleep(1.0)
    assert 1 == len(builds(stoker, seen["specKey"])), "a fault of the definition is not tried again"
    remove(stoker, "environment/unsolvable")


def test_images_are_signed_with_the_namespaces_key_once_it_is_there(stoker: Stoker) -> None:
    key = signing_keys.new_key()
    with stoker.namespace("signed") as team:
        stoker.apply(
            workspace(team, signing={"secretRef": {"name": "cosign"}}),
            environment(stoker, "torch", namespace=team, pip=["stoker-tiny==1.0"]),
        )
        stoker.until("environment", "torch", waits_for("SigningKeyNotFound"), namespace=team)

        stoker.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "cosign", "namespace": team},
                "stringData": {"cosign.key": signing_keys.pem(key).decode()},
            }
        )
        stoker.cli("env", "build", "torch", "--again", "-n", team)

        shown = stoker.cli("env", "show", "torch", "-n", team).stdout
        assert f"signed by     {signing_keys.fingerprint(key)}" in shown
        assert "sign " in stoker.cli("env", "logs", "torch", "-n", team).stdout


def test_a_build_that_nobody_wants_any_more_is_ended(stoker: Stoker) -> None:
    before = set(builds(stoker))
    stoker.apply(environment(stoker, "unwanted", pip=["scikit-learn", "pandas", "lightgbm"], cacheEpoch=11))
    (name,) = eventually(
        lambda: [one for one in builds(stoker) if one not in before and not over(stoker, one)], "a build", stoker
    )
    remove(stoker, "environment/unwanted")
    eventually(lambda: name not in builds(stoker), "the end of the build", stoker)
