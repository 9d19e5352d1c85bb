"""A local run takes what would be in a Secret from the shell, and keeps it nowhere."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.cli import Cli

CANARY = "canary $(echo no) '*' 7f3a"
OTHER = "canary-9c1e"
JOB = """\
apiVersion: stoker.dev/v1alpha1
kind: TrainingJob
metadata: {name: iris}
spec:
  inputs: {token: {secretRef: {name: hf, key: token}}}
  command:
    environment: {spec: {pip: []}}
    env:
    - {name: WANDB, valueFrom: {secretKeyRef: {name: wandb, key: api-key}}}
    - {name: MAYBE, valueFrom: {configMapKeyRef: {name: c, key: k, optional: true}}}
    envFrom: [{secretRef: {name: more}}]
    code:
      inline:
        train.py: |
          import hashlib, json, os, sys
          told = [sys.argv[1], os.environ["STOKER_INPUT_token"], os.environ["WANDB"]]
          digests = [hashlib.sha256(text.encode()).hexdigest() for text in told]
          ours = [name for name in os.environ if name.startswith("STOKER_SECRET_")]
          json.dump([*digests, ours, "MAYBE" in os.environ], open("outputs/told.json", "w"))
    command: python train.py "${{inputs.token}}"
"""


def digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def test_the_command_has_the_secret_and_no_file_of_the_run_has_it(cli: Cli) -> None:
    cli.write(iris__yaml=JOB)
    cli.env |= {"STOKER_SECRET_token": CANARY, "WANDB": OTHER}

    done = cli("run", "iris.yaml", "-o", "json")

    record = json.loads(done.stdout)
    place = Path(urlsplit(record["storage"]).path)
    told = json.loads((place / "attempts/1/0/outputs/told.json").read_text())
    assert told == [digest(CANARY), digest(CANARY), digest(OTHER), [], False]
    assert "envFrom: Secret more not read on this machine" in done.stderr
    kept = [path for path in (*cli.folder.rglob("*"), *cli.cache.rglob("*")) if path.is_file()]
    assert {"job.json", "result.json", "seal.json", "std_log.txt"} <= {path.name for path in kept}
    for canary in (CANARY, OTHER):
        assert [path for path in kept if canary.encode() in path.read_bytes()] == []
        assert canary not in done.stdout + done.stderr
    stored = json.loads((place / "job.json").read_text())
    assert stored["inputs"]["token"] == {"type": "secret", "secretRef": {"name": "hf", "key": "token"}}
    assert stored["command"] == 'python train.py "${STOKER_INPUT_token}"'
    assert "WANDB" not in stored["env"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"WANDB": OTHER}, "inputs.token: is key token of Secret hf, and a local run reads no Secret; put the value into the environment: export STOKER_SECRET_token=…"),
        ({"STOKER_SECRET_token": CANARY}, "command.env[WANDB].valueFrom: comes from key api-key of Secret wandb, which a local run does not read; put the value into the environment: export WANDB=…"),
    ],
    ids=["input", "variable"],
)  # fmt: skip
def test_a_secret_that_the_shell_does_not_have_is_named_with_the_fix(
    cli: Cli, given: dict[str, str], words: str
) -> None:
    cli.write(iris__yaml=JOB)
    cli.env |= given

    done = cli("run", "iris.yaml", code=2)

    assert words in done.stderr
    assert not (cli.folder / ".stoker").exists()
