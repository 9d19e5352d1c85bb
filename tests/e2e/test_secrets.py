"""A command has its Secrets, nobody else does; and one that is missing is told with the way to make it."""

import json

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

CANARY = "kittiwake-5f0c2b"
CODE = """
import hashlib, os
for name in ("STOKER_INPUT_token", "ROOM_PASSWORD", "API_KEY"):
    print(name, hashlib.sha256(os.environ[name].encode()).hexdigest()[:12])
"""


def secret(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": {"PASSWORD": CANARY},
    }


def test_a_secret_reaches_the_command_and_is_kept_nowhere(stoker: Stoker, cpu: str) -> None:
    job = training_job(
        "has-secrets",
        "python3 train.py && test -n ${{inputs.token}}",
        image=stoker.lab.images["base"],
        compute=cpu,
        files={"train.py": CODE},
        inputs={"token": {"secretRef": {"name": "room", "key": "PASSWORD"}}},
    )
    job["spec"]["command"] |= {
        "envFrom": [{"secretRef": {"name": "room"}, "prefix": "ROOM_"}],
        "env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "room", "key": "PASSWORD"}}}],
    }
    stoker.apply(secret("room"), job)

    status = stoker.finished("has-secrets")

    assert status["phase"] == "Completed", json.dumps(status, indent=1)
    log = stoker.cli("logs", "has-secrets").stdout
    # hashlib.sha256(CANARY): the command had the value under all three names, and only its digest was printed.
    assert [line.split()[0] for line in log.splitlines()] == ["STOKER_INPUT_token", "ROOM_PASSWORD", "API_KEY"]
    assert len({line.split()[1] for line in log.splitlines()}) == 1
    everything = stoker.lab.kubectl("get", "trainingjobs,jobs,pods,events", "-A", "-o", "json")
    assert CANARY not in everything
    assert CANARY not in stoker.cli("show", "has-secrets", "-o", "json").stdout


def test_a_secret_that_is_missing_is_told_and_the_run_goes_on_once_it_is_there(stoker: Stoker, cpu: str) -> None:
    stoker.apply(
        training_job(
            "lacks-secret",
            'test -n "${{inputs.token}}"',
            image=stoker.lab.images["base"],
            compute=cpu,
            inputs={"token": {"secretRef": {"name": "late", "key": "PASSWORD"}}},
        )
    )

    waiting = stoker.until(
        "trainingjob",
        "lacks-secret",
        lambda job: (job["status"].get("waiting") or {}).get("reason") == "SecretNotFound",
    )["status"]["waiting"]
    assert "inputs.token" in waiting["message"]
    assert "late" in waiting["message"]
    assert "kubectl create secret" in waiting["fix"]

    stoker.apply(secret("late"))

    assert stoker.finished("lacks-secret")["phase"] == "Completed"
