"""An environment that nobody has is built in the cluster, once, and run by the jobs that asked for it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.host import LabError
from tests.support import broken_environments, signing_keys
from tests.support.installed import Stoker, training_job
from tests.support.lab_environments import (
    CODE,
    builds,
    condition,
    environment,
    image,
    job,
    remove,
    report,
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


def test_another_namespace_finds_an_image_in_a_registry_that_it_trusts(stoker: Stoker) -> None:
    stoker.apply(environment(stoker, "trusted", pip=["stoker-tiny==1.0"]))
    theirs, url = image(stoker, "trusted"), f"{stoker.lab.registry}/environments"
    with stoker.namespace("trusting") as team:
        stoker.apply(workspace(team, globalRegistries=[{"url": f"{url}/default", "insecure": True}]))

        stoker.apply(environment(stoker, "same", namespace=team, pip=["stoker-tiny==1.0"]))

        found = image(stoker, "same", team)
        assert ("global", theirs["image"]) == (found["source"], found["image"])
        assert [] == builds(stoker, namespace=team)

        # In other words it is another environment, of the same packages: its image is theirs, and no layer is sent.
        stoker.apply(environment(stoker, "reworded", namespace=team, pip=["stoker-tiny<1.5"]))

        own = image(stoker, "reworded", team)
        assert "built" == own["source"]
        assert theirs["specKey"] != own["specKey"]
        assert f"{url}/{team}/environments@{theirs['digest']}" == own["image"]
        (build,) = builds(stoker, namespace=team)
        manifest = stoker.manifest(own["image"])
        sent = json.loads(manifest)["config"]["size"] + len(manifest)
        assert sent == report(stoker, build, team)["uploadedBytes"]
        assert "the image of this lock is there" in stoker.cli("env", "logs", "reworded", "-n", team).stdout


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


#: What of a spec names files in a job's code.
_IN_THE_CODE = {"condaFile", "pipFile", "build", "context"}


def test_every_broken_definition_is_refused_or_told_as_a_condition(stoker: Stoker, cpu: str) -> None:
    """All of them at once: none is built, and each is told in the field where it stands, with its fix."""
    said = broken_environments.golden()
    expected: dict[tuple[str, str], list[str]] = {}
    broken: list[dict[str, Any]] = []
    for name in broken_environments.names():
        folder, made = broken_environments.FOLDER / name, None
        lines = [line.removeprefix("in the cluster: ") for line in said[name] if line.startswith("in the cluster: ")]
        if not lines:
            continue  # in a form that is no manifest
        made = yaml.safe_load((folder / "env.yaml").read_text())
        made["metadata"] = {"name": name, "namespace": "default"}
        if lines[0].startswith("refused: "):
            _is_refused(stoker, made, lines[0].removeprefix("refused: spec."))
            continue
        if _IN_THE_CODE & set(made["spec"]):
            spec, made = made["spec"], training_job(name, "true", image="x", compute=cpu, files=_code(folder))
            made["spec"]["command"]["environment"] = {"spec": spec}
        broken.append(made)
        expected[made["kind"].lower(), name] = lines
    stoker.apply(*broken)

    try:
        for (kind, name), lines in expected.items():
            words = _told_of(stoker, kind, name)
            assert all(line in words for line in lines), (name, words)
        assert {"environment", "trainingjob"} == {kind for kind, _ in expected}
    finally:
        remove(stoker, *(f"{kind}/{name}" for kind, name in expected))


def _code(folder: Path) -> dict[str, str]:
    files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {path: text for path, text in files.items() if path != "env.yaml"} | {"train.py": ""}


def _is_refused(stoker: Stoker, manifest: dict[str, Any], line: str) -> None:
    """By the API server, which names the field; what it says of a value is in its own words, or ours."""
    with pytest.raises(LabError) as refused:
        stoker.lab.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    field = line.partition(":")[0].partition("[")[0]
    assert f"spec.{field}" in str(refused.value), refused.value


def _told_of(stoker: Stoker, kind: str, name: str) -> str:
    """Reason, message and fix, as `kubectl describe` shows them."""
    if kind == "environment":
        reason, message = told(stoker, name)
    else:
        seen = stoker.until(kind, name, lambda one: bool(condition(one, "ImageReady").get("reason") == "SpecInvalid"))
        waiting = seen["status"]["waiting"]
        reason, message = waiting["reason"], f"{waiting['message']}; {waiting['fix']}"
    # An image alone is run as it is, so that its name is all there is to be wrong.
    assert reason in ("SpecInvalid", "ImageReferenceInvalid"), message
    return f"image: {message}" if reason == "ImageReferenceInvalid" else message
