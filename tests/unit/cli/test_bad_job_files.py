"""Bad job files: each problem names the field, the value and the fix, with line and column, before anything is sent."""

from pathlib import Path

import pytest

from stoker.errors import BadInput, BadInputs
from stoker.sdk import ask

GOOD = "command: python train.py\ncode: .\n"
MANIFEST = """\
apiVersion: stoker.dev/v1alpha1
kind: TrainingJob
metadata: {name: iris}
spec:
  compute: cpu
"""
BLOCK = "  command: {command: python train.py, environment: {spec: {image: 'python:3.12'}}"

#: (text of the file, field, what is said of the value, part of the fix)
BAD = [
    pytest.param('command: "echo \\0"\n', "command", "NUL", "leave it out", id="NUL in the command"),
    pytest.param(GOOD + 'inputs: {a: "\\ud800"}\n', "inputs.a", "not valid Unicode", "leave it out", id="half a character"),
    pytest.param("[" * 5000, "", "nested too deeply", "fewer levels", id="very deep"),
    pytest.param(GOOD + f"resources: {{instance_count: {'9' * 5000}}}\n", "resources.instance_count", "Infinity", "1 to 10000", id="very many digits"),
    pytest.param("code: .\n", "command", "is missing", "python train.py", id="no command"),
    pytest.param("command: [python, train.py]\n", "command", '["python", "train.py"]', "python train.py", id="command as a list"),
    pytest.param(GOOD + "comand: x\n", "comand", "unknown key", "did you mean command?", id="misspelled key"),
    pytest.param(GOOD + "gpus: 2\n", "gpus", "unknown key", "resources", id="unknown key"),
    pytest.param(GOOD + "distribution: {type: tensorflow, worker_count: 1}\nresources: {instance_count: 2}\n", "distribution.worker_count", "1 on 2 nodes: a node would have none", "write 2 or more", id="a node without a worker"),
    pytest.param("component: azureml:train:1\n", "component", "registered components are not supported yet", "name the component's file", id="registered component"),
    pytest.param(GOOD + "queue_settings: {priority: urgent}\n", "queue_settings.priority", "no priority", "low, medium or high", id="queue priority"),
    pytest.param(GOOD + "retry: {limit: 2}\n", "retry", "a job file cannot say it", "spec.retry", id="retry"),
    pytest.param(GOOD + "limits: {no_progress: 5m}\n", "limits.no_progress", "no limit but timeout", "spec.limits.noProgressSeconds", id="a limit of manifests"),
    pytest.param(GOOD + "type: sweep\n", "type", '"sweep": sweeps are not supported yet', "one command", id="another type of job"),
    pytest.param(GOOD + "name: My Job\n", "name", '"My Job"', "my-job", id="bad name"),
    pytest.param(GOOD.replace("code: .", "code: ../nowhere"), "code", '"../nowhere" does not exist', "code: .", id="no such folder"),
    pytest.param(GOOD.replace("code: .", "code: git://x/y"), "code", '"git://x/y"', "code: .", id="remote code"),
    pytest.param(GOOD + "limits: {timeout: soon}\n", "limits.timeout", '"soon" is not a duration', "90s, 30m", id="bad duration"),
    pytest.param(GOOD + "limits: {timeout: -5}\n", "limits.timeout", "-5 is out of range", "1 to", id="negative duration"),
    pytest.param(GOOD + "limits: {time: 5}\n", "limits.time", "unknown key", "timeout", id="unknown limit"),
    pytest.param(GOOD + "resources: {instance_count: -1}\n", "resources.instance_count", "-1", "1 to 10000", id="negative count"),
    pytest.param(GOOD + "resources: {instance_count: two}\n", "resources.instance_count", '"two"', "1 to 10000", id="count as a word"),
    pytest.param(GOOD + "resources: {shm_size: lots}\n", "resources.shm_size", '"lots"', "2g", id="bad size"),
    pytest.param(GOOD + "resources: {requests: {cpu: many}}\n", "resources.requests.cpu", '"many"', "500m", id="bad quantity"),
    pytest.param(GOOD + "inputs: {path: 1}\n", "inputs.path", '"path"', "none of", id="reserved name of an input"),
    pytest.param(GOOD + "inputs: {lr: }\n", "inputs.lr", "has no value", "literal", id="empty input"),
    pytest.param(GOOD + "inputs: {lr: {value: 1}}\n", "inputs.lr.value", "unknown key", "lr: 1", id="literal as a mapping"),
    pytest.param(GOOD + "inputs: {d: {path: ./none}}\n", "inputs.d.path", '"./none" does not exist', "s3://", id="no such data"),
    pytest.param(GOOD + "inputs: {d: {type: video, path: .}}\n", "inputs.d.type", '"video"', "uri_folder", id="unknown type of an input"),
    pytest.param(GOOD + "inputs: {d: {path: ., mode: eval_mount}}\n", "inputs.d.mode", '"eval_mount"', "download", id="mode of a later version"),
    pytest.param(GOOD + "inputs: {d: {path: 'https://x/y'}}\n", "inputs.d.path", "\"https://x/y\": is not a place that is read yet", "s3://", id="https input"),
    pytest.param(GOOD + "inputs: {d: {type: uri_file, path: .}}\n", "inputs.d.type", '"uri_file"', "uri_folder", id="a folder as a file"),
    pytest.param(GOOD + "inputs: {t: {secret_ref: {name: hf}}}\n", "inputs.t.secret_ref", "key is missing", "A_KEY_IN_IT", id="secret without a key"),
    pytest.param(GOOD + "inputs: {t: {secret_ref: hf}}\n", "inputs.t.secret_ref", '"hf" is not a mapping', "name: value", id="secret by name alone"),
    pytest.param(GOOD + "inputs: {t: {secret_ref: {name: HF, key: k}}}\n", "inputs.t.secret_ref.name", '"HF"', "kubectl get secrets", id="bad name of a secret"),
    pytest.param(GOOD + "inputs: {t: {secret_ref: {name: hf, key: k, kee: 1}}}\n", "inputs.t.secret_ref.kee", "unknown key", "key", id="misspelled key of a secret"),
    pytest.param(GOOD + "inputs: {t: {secret_ref: {name: hf, key: k}, path: .}}\n", "inputs.t.path", "does not belong beside secret_ref", "remove it", id="secret with a path"),
    pytest.param(GOOD + "outputs: {m: {mode: direct}}\n", "outputs.m.mode", '"direct"', "upload", id="output by its URL"),
    pytest.param(GOOD + "environment_variables: {STOKER_RANK: 1}\n", "environment_variables.STOKER_RANK", "Stoker's own", "another", id="a variable of ours"),
    pytest.param(GOOD + "environment: azureml:base\n", "environment", '"azureml:base" has neither a version nor a label', "@latest", id="environment without a version"),
    pytest.param(GOOD + "environment: {image: 'a b'}\n", "environment.image", '"a b"', "one reference", id="two images"),
    pytest.param(GOOD + "environment: {imag: x}\n", "environment.imag", "unknown key", "image", id="misspelled key of an environment"),
    pytest.param(GOOD + "environment: {build: {path: .}}\n", "environment.build.path", "no file Dockerfile", "Dockerfile", id="build without a Dockerfile"),
    pytest.param(GOOD + "environment: {}\n", "environment", "neither an image nor packages", "add image", id="empty environment"),
    pytest.param(GOOD + "environment: {pip: [.]}\n",  "environment.pip[0]", "'.'", "index", id="a path as a package"),
    pytest.param(GOOD + "environment: missing.yaml\n", "environment", '"missing.yaml"', "conda file", id="no such environment file"),
    pytest.param(GOOD + "compute: Big GPU\n", "compute", '"Big GPU"', "such as cpu", id="bad compute"),
    pytest.param(GOOD + "code: src\n", "code", "stands twice, first on line 2", "one of the two", id="a key twice"),
    pytest.param("command: python t.py ${{inputs.lr}}\n", "command", "${{inputs.lr}}", "inputs", id="undeclared input"),
    pytest.param("command: python t.py ${{search_space.x}}\n", "command", "${{search_space.x}}", "inputs.NAME", id="not a placeholder"),
    pytest.param("- command: x\n", "", "not [", "command", id="a list of jobs"),
    pytest.param("command: 'x\n", "", "not valid YAML", "quotes", id="broken YAML"),
    pytest.param(MANIFEST + BLOCK + ", code: {snapshot: 'sha256:" + "0" * 64 + "', inline: {a: b}}}\n", "spec.command.code.snapshot", "exactly one", "one of the two", id="two code sources"),
    pytest.param(MANIFEST + BLOCK + "}\n  computee: x\n", "spec.computee", "computee", "compute", id="unknown field of a manifest"),
    pytest.param(MANIFEST + BLOCK + "}\n  limits: {timeoutSeconds: -3}\n", "spec.limits.timeoutSeconds", "-3", "", id="negative timeout of a manifest"),
    pytest.param(MANIFEST.replace("TrainingJob", "Pod") + BLOCK + "}\n", "kind", '"Pod"', "TrainingJob", id="another kind"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "value", "fix"), BAD)
def test_a_bad_job_file_names_field_value_and_fix(tmp_path: Path, text: str, field: str, value: str, fix: str) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    (tmp_path / "job.yaml").write_text(text)

    with pytest.raises((BadInput, BadInputs)) as refused:
        ask.ask(tmp_path, (), ask.Flags(), tmp_path)

    problems = refused.value.problems if isinstance(refused.value, BadInputs) else (refused.value,)
    problem = next((one for one in problems if one.field == field), None)
    assert problem is not None, f"no problem of {field!r} in: {refused.value}"
    assert value in problem.message
    assert fix in problem.fix
    assert str(problem).startswith("job.yaml")


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: x\nlimits: {timeout: soon}\nresources: {instance_count: 0}\nnmae: a\n")

    with pytest.raises(BadInputs) as refused:
        ask.ask(tmp_path, (), ask.Flags(), tmp_path)

    assert ["job.yaml:2:10: limits.timeout", "job.yaml:3:13: resources.instance_count", "job.yaml:4:1: nmae"] == [
        ": ".join(str(one).split(": ")[:2]) for one in refused.value.problems
    ]
