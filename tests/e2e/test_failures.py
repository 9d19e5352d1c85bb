"""When a run cannot succeed, it says so in the words of whoever refused it, and what it wrote is saved all the same."""

from typing import Any

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab


def test_exit_code_3_is_failed_with_3_and_the_last_lines(stoker: Stoker, cpu: str) -> None:
    code = "import pathlib, sys\npathlib.Path('outputs/half.txt').write_text('half')\nprint('almost there')\nprint('then it broke', file=sys.stderr)\nsys.exit(3)\n"
    stoker.apply(
        training_job(
            "exit-three", "python3 train.py", image=stoker.lab.images["base"], compute=cpu, files={"train.py": code}
        )
    )

    status = stoker.finished("exit-three")

    assert (status["phase"], status["exitCode"]) == ("Failed", 3)
    assert "almost there" in status["message"]
    assert "then it broke" in status["message"]
    assert [saved["path"] for saved in status["outputs"]] == ["half.txt"]


def test_a_python_exception_ends_in_the_message(stoker: Stoker, cpu: str) -> None:
    stoker.apply(
        training_job(
            "raises",
            "python3 train.py",
            image=stoker.lab.images["base"],
            compute=cpu,
            files={"train.py": "raise ValueError('learning rate must be positive')\n"},
        )
    )

    status = stoker.finished("raises")

    assert (status["phase"], status["exitCode"]) == ("Failed", 1)
    assert "ValueError: learning rate must be positive" in status["message"]


def test_a_missing_entry_file_is_named(stoker: Stoker, cpu: str) -> None:
    stoker.apply(
        training_job(
            "no-entry",
            "python3 trian.py",
            image=stoker.lab.images["base"],
            compute=cpu,
            files={"train.py": "print(1)\n"},
        )
    )

    status = stoker.finished("no-entry")

    assert status["phase"] == "Failed"
    assert "trian.py" in status["message"]


def test_a_package_that_nobody_has_is_told_before_a_node_is_asked_for(stoker: Stoker, cpu: str) -> None:
    pip = ["stoker-tiny", "no-such-package-anywhere>=2"]
    stoker.apply(training_job("no-package", "python3 -c pass", image=stoker.lab.images["base"], compute=cpu, pip=pip))

    def told(job: dict[str, Any]) -> bool:
        return (job["status"].get("waiting") or {}).get("reason") in ("PackageNotFound", "PipUnsatisfiable")

    waiting = stoker.until("trainingjob", "no-package", told)["status"]["waiting"]

    assert "pip[1]" in waiting["message"]
    assert "no-such-package-anywhere" in waiting["message"]
    stoker.lab.kubectl("delete", "trainingjob", "no-package")


def test_an_image_that_is_not_there_is_told_before_a_node_is_asked_for(stoker: Stoker, cpu: str) -> None:
    stoker.apply(training_job("no-image", "true", image=f"{stoker.lab.registry}/lab/nowhere:1", compute=cpu))

    seen = stoker.until("trainingjob", "no-image", lambda job: bool(job["status"].get("waiting")), seconds=10)

    assert seen["status"]["waiting"]["reason"] == "BaseImageNotFound"
    assert "lab/nowhere:1" in seen["status"]["waiting"]["message"]


@pytest.mark.parametrize(
    ("name", "policy", "words"),
    [
        (
            "full",
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "none"},
                "spec": {"hard": {"pods": "0"}},
            },
            "exceeded quota",
        ),
        ("strict", None, "violates PodSecurity"),
    ],
)
def test_a_namespace_that_rejects_the_pods_is_told_in_the_api_servers_words(
    stoker: Stoker, cpu: str, name: str, policy: dict | None, words: str
) -> None:
    labels = {} if policy else {"pod-security.kubernetes.io/enforce": "restricted"}
    stoker.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    if policy:
        stoker.apply({**policy, "metadata": {**policy["metadata"], "namespace": name}})
    job = training_job("rejected", "true", image=stoker.lab.images["base"], compute=cpu, namespace=name)
    if not policy:
        job["spec"]["command"]["pod"] = {
            "volumes": [{"name": "host", "hostPath": {"path": "/etc"}}],
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        }
    stoker.apply(job)

    seen = stoker.until(
        "trainingjob",
        "rejected",
        lambda job: (job["status"].get("waiting") or {}).get("reason") == "PodsRejected",
        namespace=name,
    )

    assert words in seen["status"]["waiting"]["message"]
    # It would hold its node for as long as it stands, and the next test wants one.
    stoker.lab.kubectl("delete", "namespace", name, "--wait=false")
    stoker.lab.kubectl("delete", "trainingjob", "rejected", "-n", name, "--ignore-not-found")


def test_a_stock_root_image_finds_a_user_a_home_and_a_cache(stoker: Stoker, cpu: str) -> None:
    code = (
        "import getpass, pathlib, os, tempfile, sys\n"
        "print('user', getpass.getuser())\n"
        "pathlib.Path('~/.config').expanduser().mkdir(parents=True); pathlib.Path('~/.config/x').expanduser().write_text('x')\n"
        "import sklearn.datasets; sklearn.datasets.get_data_home()\n"
        "cache = pathlib.Path(os.environ['XDG_CACHE_HOME']) / 'torch'; cache.mkdir(parents=True)\n"
        "tempfile.NamedTemporaryFile(); print('uid', os.getuid())\n"
    )
    stoker.apply(
        training_job(
            "stock-root", "python3 train.py", image=stoker.lab.images["base"], compute=cpu, files={"train.py": code}
        )
    )

    status = stoker.finished("stock-root")

    assert (status["phase"], status["exitCode"]) == ("Completed", 0), status["message"]
