"""An environment that nobody has is built in the cluster, once, and run by the jobs that asked for it."""

import json
import signal
import time
from typing import Any

import pytest

from tests.support import signing_keys
from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

#: Says where a package is imported from, and its version.
CODE = {"main.py": "import stoker_tiny, sys\nprint('tiny', stoker_tiny.VERSION, sys.prefix)\n"}


@pytest.fixture(scope="module", autouse=True)
def index(stoker: Stoker) -> None:
    stoker.lab.packages(lambda line: None)


def environment(stoker: Stoker, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"image": stoker.lab.images["base"], **spec},
    }


def job(stoker: Stoker, name: str, cpu: str, env: str, command: str = "python main.py") -> dict[str, Any]:
    made = training_job(name, command, image="x", compute=cpu, files=CODE)
    made["spec"]["command"]["environment"] = {"name": env}
    return made


def ready(seen: dict[str, Any], reason: str = "") -> bool:
    status = seen.get("status") or {}
    if status.get("observedGeneration") != seen["metadata"]["generation"]:
        return False
    found = next((one for one in status.get("conditions", ()) if one["type"] == "Ready"), {})
    return (found.get("reason") == reason) if reason else found.get("status") == "True"


def builds(stoker: Stoker, spec_key: str = "") -> list[str]:
    """Names of the Jobs of builds that are there."""
    found = stoker.items("jobs", "stoker.dev/environment-build")
    return [
        one["metadata"]["name"] for one in found
        if not spec_key or one["metadata"]["annotations"]["stoker.dev/spec-key"] == spec_key
    ]  # fmt: skip


def remove(stoker: Stoker, *names: str) -> None:
    for name in names:
        stoker.lab.kubectl("delete", "--ignore-not-found", name)


def test_a_conda_and_pip_environment_is_built_and_run_by_a_job(stoker: Stoker, cpu: str) -> None:
    conda = {
        "channels": ["lab"],
        "dependencies": ["python=3.11", "tiny-conda=1.0", "pip", {"pip": ["stoker-tiny==1.0"]}],
    }
    stoker.apply(environment(stoker, "both", conda=conda), job(stoker, "both-1", cpu, "both"))

    status = stoker.finished("both-1")

    assert ("Completed", "built") == (status["phase"], status["environment"]["source"]), status
    assert "/environments@sha256:" in status["environment"]["image"]
    assert "tiny 1.0 /opt/stoker/env" in stoker.cli("logs", "both-1").stdout
    told = stoker.until("environment", "both", ready)["status"]
    assert told["definitionKey"] == status["environment"]["definitionKey"]
    key = told["images"][0]["specKey"]
    assert f"environments/{key}/build.log" == told["buildLog"]
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
    first = stoker.until("environment", "edited", ready)["status"]["images"][0]
    stoker.apply(environment(stoker, "edited", pip=["stoker-tiny==2.0"]))
    second = stoker.until("environment", "edited", ready)["status"]["images"][0]
    assert first["digest"] != second["digest"]

    stoker.apply(environment(stoker, "again", pip=["stoker-tiny == 1.0  # the same"]))
    third = stoker.until("environment", "again", ready)["status"]["images"][0]

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

    seen = stoker.until("environment", "unsolvable", lambda one: _stalled(one))
    told = next(one for one in seen["status"]["conditions"] if one["type"] == "Stalled")

    assert told["reason"] in ("PackageNotFound", "PipUnsatisfiable"), told
    assert "pip[1]" in told["message"]
    assert "digest" not in seen["status"]["images"][0]
    failed = stoker.cli("env", "build", "unsolvable", check=False)
    assert 1 == failed.returncode
    assert told["reason"] in failed.stderr
    time.sleep(1.0)
    assert 1 == len(builds(stoker, seen["status"]["images"][0]["specKey"])), (
        "a fault of the definition is not tried again"
    )
    remove(stoker, "environment/unsolvable")


def _stalled(seen: dict[str, Any]) -> bool:
    status = seen.get("status") or {}
    return any(one["type"] == "Stalled" and one["status"] == "True" for one in status.get("conditions", ()))


def test_wrong_credentials_are_told_and_nothing_is_built(stoker: Stoker) -> None:
    name = "wrong-credentials"
    stoker.lab.kubectl("create", "namespace", name)
    try:
        stoker.lab.kubectl(
            "create", "secret", "docker-registry", "push", "-n", name, f"--docker-server={stoker.lab.registry}",
            "--docker-username=nobody", "--docker-password=wrong",
        )  # fmt: skip
        stoker.apply({
            "apiVersion": "stoker.dev/v1alpha1", "kind": "Workspace", "metadata": {"name": "default", "namespace": name},
            "spec": {"registry": {"url": f"{stoker.lab.registry}/{name}", "insecure": True, "secretRef": {"name": "push"}}},
        })  # fmt: skip
        made = environment(stoker, "torch", pip=["stoker-tiny==1.0"])
        made["metadata"]["namespace"] = name
        stoker.apply(made)

        seen = stoker.until("environment", "torch", _stalled, namespace=name)

        told = next(one for one in seen["status"]["conditions"] if one["type"] == "Stalled")
        # The operator may not read a Secret that nobody gave it: it says so, and takes no registry's silence for a miss.
        assert "PullSecretForbidden" == told["reason"], told
        assert [] == stoker.items("jobs", "stoker.dev/environment-build", namespace=name)
    finally:
        stoker.lab.kubectl("delete", "namespace", name, "--wait=false")


def test_images_are_signed_with_the_namespaces_key_once_it_is_there(stoker: Stoker) -> None:
    name, key = "signed", signing_keys.new_key()
    stoker.lab.kubectl("create", "namespace", name)
    try:
        stoker.apply({
            "apiVersion": "stoker.dev/v1alpha1", "kind": "Workspace", "metadata": {"name": "default", "namespace": name},
            "spec": {"signing": {"secretRef": {"name": "cosign"}}},
        })  # fmt: skip
        made = environment(stoker, "torch", pip=["stoker-tiny==1.0"])
        made["metadata"]["namespace"] = name
        stoker.apply(made)
        stoker.until("environment", "torch", lambda one: ready(one, "SigningKeyNotFound"), namespace=name)

        secret = {"cosign.key": signing_keys.pem(key).decode()}
        stoker.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "cosign", "namespace": name},
                "stringData": secret,
            }
        )
        stoker.cli("env", "build", "torch", "--again", "-n", name)

        shown = stoker.cli("env", "show", "torch", "-n", name).stdout
        assert f"signed by     {signing_keys.fingerprint(key)}" in shown
        assert "sign " in stoker.cli("env", "logs", "torch", "-n", name).stdout
    finally:
        stoker.lab.kubectl("delete", "namespace", name, "--wait=false")


def test_a_registry_that_is_away_is_waited_for_and_nothing_is_built(stoker: Stoker) -> None:
    process = stoker.lab.state.processes.get("registry")
    assert process is not None
    process.signal(signal.SIGSTOP)
    try:
        stoker.apply(environment(stoker, "waits", pip=["stoker-tiny==2.0"], cacheEpoch=3))
        seen = stoker.until("environment", "waits", lambda one: ready(one, "RegistryUnreachable"))
        time.sleep(10.0)
        assert [] == [name for name in builds(stoker) if not _over(stoker, name)], seen
        assert ready(stoker.get("environment", "waits"), "RegistryUnreachable")
    finally:
        process.signal(signal.SIGCONT)

    assert "built" == stoker.until("environment", "waits", ready)["status"]["images"][0]["source"]


def test_an_operator_that_is_killed_mid_build_joins_the_build(stoker: Stoker) -> None:
    packages = ["scikit-learn", "pandas"]
    stoker.apply(environment(stoker, "killed", pip=packages, cacheEpoch=5))
    deadline = time.monotonic() + 60
    while not (running := [name for name in builds(stoker)
                           if _wants(stoker, name, "killed") and not _over(stoker, name)]):  # fmt: skip
        assert time.monotonic() < deadline, stoker.state()
        time.sleep(0.1)
    for pod in stoker.items("pods", "app.kubernetes.io/component=operator", namespace="stoker-system"):
        stoker.lab.kubectl(
            "delete", "pod", pod["metadata"]["name"], "-n", "stoker-system", "--grace-period=0", "--force"
        )

    told = stoker.until("environment", "killed", ready, seconds=120)["status"]

    assert running == builds(stoker, told["images"][0]["specKey"])
    assert "built" == told["images"][0]["source"]


def _wants(stoker: Stoker, build: str, name: str) -> bool:
    made = stoker.get("job", build)
    request = json.loads(made["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
    return any("pandas" in line for line in (request.get("pip") or {}).get("requirements", ()))


def _over(stoker: Stoker, build: str) -> bool:
    return any(one["status"] == "True" for one in stoker.get("job", build).get("status", {}).get("conditions", ()))


def test_a_build_that_nobody_wants_any_more_is_ended(stoker: Stoker) -> None:
    before = set(builds(stoker))
    stoker.apply(environment(stoker, "unwanted", pip=["scikit-learn", "pandas", "lightgbm"], cacheEpoch=11))
    stoker.until("environment", "unwanted", lambda one: True)
    deadline = time.monotonic() + 30
    while not (found := [one for one in builds(stoker) if one not in before and not _over(stoker, one)]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    remove(stoker, "environment/unwanted")
    (name,) = found
    deadline = time.monotonic() + 90
    while name in builds(stoker):
        assert time.monotonic() < deadline, stoker.state()
        time.sleep(1.0)
