"""A canary in the command's environment: what the pod's own processes write and send has it nowhere."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.runtime.pod import Cloud, Pod

CANARY = "canary-51c0"
#: Uses the secret as text and as variable, and tells nothing of it but that it is the right one.
SCRIPT = (
    'test "${STOKER_INPUT_token}" = "$WANDB" && '
    "python3 -c 'import hashlib, os; print(hashlib.sha256(os.environ[\"WANDB\"].encode()).hexdigest())'"
)


@pytest.fixture
def pod(tmp_path: Path, cloud: Cloud) -> Iterator[Pod]:
    """A pod in which nothing is yet."""
    one = Pod(tmp_path / "pod", cloud)
    yield one
    one.close()


@pytest.mark.parametrize("failing", [False, True], ids=["completes", "fails"])
def test_no_file_and_no_message_of_a_pod_has_the_secret(pod: Pod, cloud: Cloud, failing: bool) -> None:
    cloud.job["inputs"] = {"token": {"type": "secret", "secretRef": {"name": "hf", "key": "token"}}}
    cloud.job["envReferences"] = {"WANDB": {"secretKeyRef": {"name": "hf", "key": "token"}}}
    code, errors = pod.fetch()
    assert code == 0, errors
    assert not Path(pod.scratch.inputs, "token").exists(), "a secret is no folder"
    ship = pod.ship()
    script = f"{SCRIPT}; exit 3" if failing else SCRIPT

    main = pod.launch("sh", "-c", script, wait=True, STOKER_INPUT_token=CANARY, WANDB=CANARY)
    output, _ = main.communicate(timeout=60)
    ship.terminate()
    shipped, _ = ship.communicate(timeout=60)

    assert main.returncode == (3 if failing else 0)
    assert hashlib.sha256(CANARY.encode()).hexdigest() in output.decode(), "the command had the secret"
    assert cloud.seal is not None
    written = [path for path in pod.folder.rglob("*") if path.is_file()]
    assert {"job.json", "launch.json", "launch.env", "exit.json", "termination-log"} <= {path.name for path in written}
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []
    assert [key for key, body in cloud.objects.items() if CANARY.encode() in body] == []
    assert CANARY.encode() not in output + (shipped or b"")
    assert CANARY not in json.dumps(cloud.requests)
