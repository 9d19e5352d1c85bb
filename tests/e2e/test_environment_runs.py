"""Assembled images run: under a real kubelet, as a job and as a plain pod of another user on a read-only root."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stoker.core.environment.keys import PREFIX
from tests.support import environment_facts
from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

SCIENCE = ["lightgbm", "numpy", "pandas", "scikit-learn", "stoker-tiny==1.0"]
SPECS: Mapping[str, Mapping[str, Any]] = {
    "pip": {"pip": SCIENCE},
    "conda": {
        "conda": {
            "channels": ["lab"],
            "dependencies": [
                *("python=3.11", "pip", "native-conda", "post-link-conda", "tiny-conda=1.0"),
                {"pip": [*SCIENCE, "stoker-source"]},
            ],
        }
    },
}
KINDS = pytest.mark.parametrize("kind", sorted(SPECS))
NOBODY = 65534
#: For a build that fetches and compiles 80 MB of packages.
BUILD_SECONDS = 180


@dataclass(frozen=True)
class Seen:
    """What one environment told of itself. job: uid 1000 in a TrainingJob. pod: nobody, on a read-only root, without any
    volume. lock: `stoker env show --lock`. status: the Environment's."""

    job: Mapping[str, Any]
    pod: Mapping[str, Any]
    lock: Mapping[str, Any]
    status: Mapping[str, Any]

    def locked(self, *kinds: str) -> dict[str, str]:
        return {one["name"]: one["version"] for one in self.lock["packages"] if one["kind"] in kinds}


@pytest.fixture(scope="module")
def seen(stoker: Stoker, cpu: str) -> Mapping[str, Seen]:
    """Both environments, built once and asked once as a job and once as a pod. The second finds the first one's layers."""
    stoker.lab.packages(lambda line: None)
    code = {"facts.py": Path(environment_facts.__file__).read_text()}
    for kind, spec in SPECS.items():
        stoker.apply(environment(kind, {"image": stoker.lab.images["base"], **spec}))
        stoker.apply(job(f"facts-{kind}", "python facts.py", cpu, f"runs-{kind}", code))
        stoker.until("environment", f"runs-{kind}", is_ready, seconds=BUILD_SECONDS)
    return {kind: asked(stoker, kind, code["facts.py"], cpu) for kind in SPECS}


def asked(stoker: Stoker, kind: str, code: str, pool: str) -> Seen:
    ended = stoker.finished(f"facts-{kind}")
    log = stoker.cli("logs", f"facts-{kind}").stdout
    assert "Completed" == ended["phase"], log
    pod = as_nobody(stoker, f"facts-{kind}", ended["environment"]["image"], code, pool)
    shown = stoker.cli("env", "show", f"runs-{kind}", "--lock").stdout
    status = stoker.get("environment", f"runs-{kind}")["status"]
    return Seen(facts(log), facts(pod), json.loads(shown), status)


def is_ready(seen: dict[str, Any]) -> bool:
    conditions = (seen.get("status") or {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def environment(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": f"runs-{name}", "namespace": "default"},
        "spec": dict(spec),
    }


def job(name: str, command: str, pool: str, env: str, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    made = training_job(name, command, image="x", compute=pool, files=files)
    made["spec"]["command"]["environment"] = {"name": env}
    return made


def as_nobody(stoker: Stoker, name: str, image: str, code: str, pool: str) -> str:
    """What the code prints in a pod that Stoker has no part in, on the pool's node, which has the image."""
    stoker.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"stoker.dev/compute": pool},
            "tolerations": [{"key": "stoker.dev/compute", "operator": "Exists"}],
            "securityContext": {"runAsNonRoot": True, "runAsUser": NOBODY, "runAsGroup": NOBODY},
            "containers": [{
                "name": "main", "image": image, "command": ["python", "-c", code],
                "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                                    "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })  # fmt: skip
    try:
        ended = stoker.until("pod", name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"))
        said = stoker.lab.kubectl("logs", name)
        assert "Succeeded" == ended["status"]["phase"], said
        return said
    finally:
        stoker.lab.kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found")


def facts(log: str) -> Mapping[str, Any]:
    (line,) = (line for line in log.splitlines() if line.startswith(environment_facts.MARK))
    told: Mapping[str, Any] = json.loads(line.removeprefix(environment_facts.MARK))
    return told


@KINDS
def test_models_are_trained_with_the_environments_own_packages(seen: Mapping[str, Seen], kind: str) -> None:
    told = seen[kind].job

    assert pytest.approx(100.0) == told["trained"]["sklearn"]
    assert pytest.approx(100.0, abs=5) == told["trained"]["lightgbm"]
    assert {"lightgbm", "numpy", "pandas", "sklearn", "stoker_tiny"} <= told["places"].keys()
    assert [] == [path for path in told["places"].values() if not path.startswith(f"{PREFIX}/lib/python3.11/")]


@KINDS
def test_python_on_path_is_the_environments(seen: Mapping[str, Seen], kind: str) -> None:
    told = seen[kind].job

    assert {name: f"{PREFIX}/bin/{name}" for name in ("python", "python3", "pip")} == told["on_path"]
    assert (f"{PREFIX}/bin/python", PREFIX) == (told["executable"], told["prefix"])
    assert seen[kind].lock["python"] == told["version"]


def test_pip_packages_stand_on_the_bases_python_and_conda_brings_its_own(seen: Mapping[str, Seen]) -> None:
    on_base, own = seen["pip"].job, seen["conda"].job

    assert ("/usr", PREFIX) == (on_base["base_prefix"], own["base_prefix"])
    assert on_base["version"] != own["version"], "the base has another Python than the channel"
    assert {"VIRTUAL_ENV": PREFIX, "CONDA_PREFIX": ""} == on_base["variables"]
    assert {"VIRTUAL_ENV": "", "CONDA_PREFIX": PREFIX} == own["variables"]


@KINDS
def test_pip_lists_what_the_lock_has(seen: Mapping[str, Seen], kind: str) -> None:
    told, locked = seen[kind].job, seen[kind].locked("pypi")
    if kind == "conda":
        # Of conda's packages only pip is a distribution that pip knows.
        locked["pip"] = seen[kind].locked("conda")["pip"]
    code, listed = told["pip_list"]

    assert 0 == code, listed
    assert sorted(locked.items()) == sorted((one["name"], one["version"]) for one in json.loads(listed))
    assert [0, "No broken requirements found."] == told["pip_check"]


@KINDS
def test_console_scripts_run_and_entry_points_resolve(seen: Mapping[str, Seen], kind: str) -> None:
    told = seen[kind].job
    numpy = seen[kind].locked("pypi")["numpy"]
    ours = {"stoker-tiny": [0, "tiny 1.0"], "stoker-tiny-old": [0, "old"], "numpy-config --version": [0, numpy]}
    if kind == "conda":
        ours |= {"tiny-conda": [0, "1.0"], "native-conda": [0, "native"]}

    assert ours == told["scripts"]
    assert dict.fromkeys(("stoker-tiny", "f2py"), f"#!{PREFIX}/bin/python") == told["shebangs"]
    assert {"f2py", "numpy-config", "stoker-tiny"} <= told["entry_points"].keys()
    assert all(told["entry_points"].values()), told["entry_points"]


def test_the_second_environment_was_made_of_the_first_ones_layers(stoker: Stoker, seen: Mapping[str, Seen]) -> None:
    """Wheels lie in one layer each, whosever the Python is."""
    log = stoker.cli("env", "logs", "runs-conda").stdout

    found = re.search(r"(\d+) layers found", log)
    assert found is not None, log
    assert int(found[1]) >= len(seen["pip"].locked("pypi"))


@KINDS
def test_any_user_runs_it_on_a_read_only_root_with_the_same_outcome(seen: Mapping[str, Seen], kind: str) -> None:
    job, pod = seen[kind].job, seen[kind].pod

    assert (1000, NOBODY, []) == (job["uid"], pod["uid"], pod["writable"])
    assert PREFIX not in job["writable"]
    of_the_user = ("uid", "writable")
    assert {k: v for k, v in job.items() if k not in of_the_user} == {
        k: v for k, v in pod.items() if k not in of_the_user
    }


def test_packages_with_code_of_their_own_to_run_are_made_in_the_build(
    stoker: Stoker, cpu: str, seen: Mapping[str, Seen]
) -> None:
    """A post-link script of conda's, and a source distribution."""
    source = next(one for one in seen["conda"].lock["packages"] if one["name"] == "stoker-source")
    code = f"import stoker_source; print(stoker_source.BUILT, open('{PREFIX}/share/post-link.txt').read())"
    stoker.apply(job("own-code", f'python -c "{code}"', cpu, "runs-conda"))

    ended = stoker.finished("own-code")

    assert "Completed" == ended["phase"], ended
    assert f"True linked into {PREFIX}" in stoker.cli("logs", "own-code").stdout
    assert source["source"] is True
    assert source["url"].endswith("/stoker_source-1.0.tar.gz")


def test_a_base_without_python_gets_one_and_a_missing_system_library_is_named(stoker: Stoker, cpu: str) -> None:
    """The base has no OpenMP, which LightGBM's wheel takes from the system."""
    image = stoker.lab.slim_image(lambda line: None)
    stoker.apply(
        environment("slim", {"image": image, "pip": SCIENCE}),
        job("slim-works", "stoker-tiny && python -c 'import numpy, sys; print(sys.base_prefix, numpy.ones(3).sum())'",
            cpu, "runs-slim"),
        job("slim-lacks", "python train.py", cpu, "runs-slim", {"train.py": "import lightgbm\n"}),
    )  # fmt: skip

    stoker.until("environment", "runs-slim", is_ready, seconds=BUILD_SECONDS)
    works, lacks = stoker.finished("slim-works"), stoker.finished("slim-lacks")

    log = stoker.cli("logs", "slim-works").stdout
    assert "Completed" == works["phase"], log
    assert "tiny 1.0" in log
    assert f"{PREFIX} 3.0" in log
    lock = json.loads(stoker.cli("env", "show", "runs-slim", "--lock").stdout)
    assert [("python", "cpython")] == [
        (one["kind"], one["name"]) for one in lock["packages"] if one["kind"] == "python"
    ]
    assert "Failed" == lacks["phase"]
    told = next(one for one in lacks["conditions"] if one["type"] == "Failed" and one["status"] == "True")
    assert "SystemLibraryMissing" == told["reason"], told
    assert "libgomp.so.1" in told["message"]
    assert "libgomp1" in told["message"]
