"""What a file is: by its type, its keys, and a hint in `$schema`. Kinds with nothing behind them are refused by name."""

from pathlib import Path

import pytest

from stoker.core.yaml12 import parse
from stoker.errors import BadInput
from stoker.sdk import ask
from stoker.sdk.azureml.kinds import NOT_YET, kind_of

SCHEMA = "$schema: https://azuremlschemas.azureedge.net/latest/{}.schema.json\n"
REFUSED = [
    ("pipeline", "type: pipeline\njobs: {a: {command: x}}\n", "type"),
    ("pipeline", "jobs: {a: {command: x}}\n", "jobs"),
    ("pipeline", "pipeline: {name: version-1, steps: {}}\n", "pipeline"),
    ("pipeline", SCHEMA.format("pipelineComponent") + "name: a\njobs: {}\n", "jobs"),
    ("sweep", "type: Sweep\ntrial: {command: x}\n", "type"),
    ("sweep", "trial: {command: x}\nsearch_space: {}\n", "trial"),
    ("automl", "type: automl\ntask: regression\n", "type"),
    ("automl", "task: classification\ntraining_data: {}\n", "training_data"),
    ("automl", "$schema: http://elsewhere.example.com/AutoMLClassificationJob.schema.json\n", "$schema"),
    ("spark", "type: spark\nentry: {file: a.py}\n", "type"),
    ("spark", SCHEMA.format("sparkComponent") + "args: x\n", "$schema"),
    ("parallel", "type: parallel\n", "type"),
    ("finetuning", SCHEMA.format("FineTuningJob") + "model: x\n", "$schema"),
    ("schedule", "trigger: {type: cron}\ncreate_job: azureml:x\n", "create_job"),
    ("schedule", "name: a\nimport_data: {}\n", "import_data"),
    ("import", "type: import\n", "type"),
    ("data", SCHEMA.format("data") + "name: iris\npath: ./iris.csv\ntype: uri_file\n", "$schema"),
    ("data", "name: iris\npath: ./iris.csv\n", "path"),
    ("model", "name: m\npath: ./m\ntype: mlflow_model\n", "type"),
    ("computeinstance", "type: computeinstance\nname: a\n", "type"),
    ("virtualmachine", "type: virtualmachine\nname: a\n", "type"),
    ("kubernetes", "type: kubernetes\nname: a\n", "type"),
    ("synapsespark", "type: synapsespark\nname: a\n", "type"),
    ("datastore", SCHEMA.format("azureBlob") + "name: a\n", "$schema"),
    ("workspace", SCHEMA.format("workspace") + "name: a\n", "$schema"),
    ("registry", SCHEMA.format("registry") + "name: a\n", "$schema"),
    ("endpoint", SCHEMA.format("managedOnlineEndpoint") + "name: a\n", "$schema"),
    ("deployment", SCHEMA.format("batchDeployment") + "name: a\n", "$schema"),
]
TAKEN = [
    ("command", "command: x\n", "job.yml"),
    ("command", "type: COMMAND\ncommand: x\n", "job.yml"),
    ("command", SCHEMA.format("commandJob") + "command: x\n", "job.yml"),
    ("command", "$schema: http://azureml/sdk-2-0/CommandJob.json\ncommand: x\n", "job.yml"),
    ("command", SCHEMA.format("pipelineJob") + "type: command\ncommand: x\n", "job.yml"),
    ("command", "component: ./c.yml\n", "job.yml"),
    ("component", SCHEMA.format("commandComponent") + "type: command\nname: c\ncommand: x\n", "c.yml"),
    ("component", "is_deterministic: true\nname: c\ncommand: x\n", "c.yml"),
    ("environment", "image: a:1\n", "env.yml"),
    ("environment", SCHEMA.format("environment") + "build: {path: .}\n", "env.yml"),
    ("compute", "type: AmlCompute\nname: a\n", "cpu.yml"),
    ("runconfig", "script: a.py\n", "a.runconfig"),
    ("runconfig", '{"script": "a.py", "framework": "Python", "target": "local"}', "a.json"),
]


@pytest.mark.parametrize(("kind", "text", "key"), REFUSED)
def test_a_kind_with_nothing_behind_it_is_refused_by_name(tmp_path: Path, kind: str, text: str, key: str) -> None:
    path = tmp_path / "file.yml"
    path.write_text(text)

    with pytest.raises(BadInput) as refused:
        ask.ask(path, (), ask.Flags(), tmp_path)

    message, fix = NOT_YET[kind]
    assert (key, fix) == (refused.value.field, refused.value.fix)
    assert message in refused.value.message
    line = next(number for number, one in enumerate(text.splitlines(), 1) if one.startswith(key))
    assert f"file.yml:{line}:1" == refused.value.where


def test_every_refused_kind_is_tried() -> None:
    assert NOT_YET.keys() == {kind for kind, _, _ in REFUSED}


@pytest.mark.parametrize(("kind", "text", "name"), TAKEN)
def test_a_kind_is_known_by_its_type_its_keys_and_a_hint(kind: str, text: str, name: str) -> None:
    assert kind == kind_of(parse(text, name)[0], name)


def test_a_component_alone_is_no_job(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("is_deterministic: true\ncommand: x\n")

    with pytest.raises(
        BadInput, match=r"c\.yml: is a component, and no job; write a job beside it with component: c\.yml"
    ):
        ask.ask(tmp_path / "c.yml", (), ask.Flags(), tmp_path)
