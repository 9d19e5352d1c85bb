"""Malformed files are refused with line and column, in front of anything sent."""

from pathlib import Path

import pytest

from stoker.errors import BadInput, BadInputs
from stoker.sdk.azureml.labels import NOBODY_ASKED
from stoker.sdk.convert import convert

JOB = "command: python train.py\ncode: .\n"
#: (file, text, beginnings of what is said, in order)
BAD = [
    ("job.yml", "command: [a\n", ["job.yml:2:1: not valid YAML"]),
    ("job.yml", "command: 'a\n", ["job.yml:2:1: not valid YAML"]),
    ("job.yml", "command: a\n  code: .\n", ["job.yml:2:7: not valid YAML"]),
    ("job.yml", JOB + "inputs:\n\tlr: 1\n", ["job.yml:4:1: not valid YAML"]),
    ("job.yml", JOB + "code: src\n", ["job.yml:3:1: code: stands twice, first on line 2"]),
    ("job.yml", JOB + "inputs: &a {b: *a}\n", ["job.yml:3:9: inputs.b: an alias that contains itself"]),
    ("job.yml", JOB + "inputs: {lr: !!python/none x}\n", ["job.yml:3:14: inputs.lr: the tag"]),
    ("job.yml", JOB + "imputs: {a: 1}\n", ['job.yml:3:1: imputs: unknown key; did you mean inputs?']),
    ("job.yml", JOB + "resources: {instance_cuont: 1}\n", ["job.yml:3:13: resources.instance_cuont: unknown key; did you mean instance_count?"]),
    ("job.yml", JOB + "resources: Standard_DS3_v2\n", ['job.yml:3:1: resources: "Standard_DS3_v2" is not a mapping']),
    ("job.yml", JOB + "limits:\n  timeout: soon\n  tiemout: 3\n", ["job.yml:4:3: limits.timeout", "job.yml:5:3: limits.tiemout: unknown key"]),
    ("job.yml", JOB + "distribution: {type: horovod}\n", ['job.yml:3:16: distribution.type: "horovod" is not one of pytorch, mpi, tensorflow, jax, ray']),
    ("job.yml", JOB + "distribution: {process_count_per_instance: 2}\n", ["job.yml:3:1: distribution.type: is missing; write pytorch or mpi"]),
    ("job.yml", JOB + "distribution: {type: pytorch, processes: 2}\n", ["job.yml:3:31: distribution.processes: unknown key"]),
    ("job.yml", JOB + "distribution: {type: mpi}\n", ["job.yml:3:1: distribution: mpi needs process_count_per_instance"]),
    ("job.yml", JOB + "distribution: {type: pytorch, worker_count: 1}\n", ["job.yml:3:31: distribution.worker_count: does not belong to pytorch"]),
    ("job.yml", JOB + "inputs: {d: {type: uri_folder}}\n", ["job.yml:3:10: inputs.d.path: is missing"]),
    ("job.yml", JOB + "inputs: {d: {path: ./train.py, mode: mount}}\n", ['job.yml:3:32: inputs.d.mode: "mount" is not one of download, ro_mount']),
    ("job.yml", JOB + "inputs: {d: {path: ., mode: direct}}\n", ['job.yml:3:23: inputs.d.mode: direct, and "." is no URL']),
    ("job.yml", JOB + "inputs: {d: {path: ., typ: uri_folder}}\n", ["job.yml:3:23: inputs.d.typ: unknown key; did you mean type?"]),
    ("job.yml", JOB + "inputs: [lr]\n", ['job.yml:3:1: inputs: ["lr"] is not a mapping']),
    ("job.yml", JOB + "inputs: {HOME: 1}\n", ['job.yml:3:10: inputs.HOME: "HOME" is not a name for it']),
    ("job.yml", JOB + "outputs: {m: {type: uri_flie}}\n", ['job.yml:3:15: outputs.m.type: "uri_flie" is not one of']),
    ("job.yml", JOB + "outputs: {m: {destination: x}}\n", ["job.yml:3:15: outputs.m.destination: unknown key"]),
    ("job.yml", JOB + "environment: azureml:base@newest\n", ["job.yml:3: environment: \"azureml:base@newest\": \"newest\" is not a label; write @latest"]),
    ("job.yml", JOB + "environment: azureml://registries/azureml/base\n", ["job.yml:3: environment: \"azureml://registries/azureml/base\" is not a reference"]),
    ("job.yml", JOB + "environment: {image: a:1, conda_flie: x}\n", ["job.yml:3:27: environment.conda_flie: unknown key; did you mean conda_file?"]),
    ("job.yml", JOB + "environment: {build: {path: ., contxt: x}}\n", ["job.yml:3:32: environment.build.contxt: unknown key"]),
    ("job.yml", JOB + "compute: my pool\n", ['job.yml:3:1: compute: "my pool" is not the name of a ComputeCluster']),
    ("job.yml", "component: ./none.yml\n", ['job.yml:1:1: component: "./none.yml" does not exist']),
    ("job.yml", "component: ./bad.yml\n", ["./bad.yml:2:1: comand: unknown key; did you mean command?"]),
    ("job.yml", "component: ./good.yml\n", ["job.yml:1:1: inputs: rate has no value, and the component needs it"]),
    ("job.yml", "component: ./good.yml\ninputs: {rate: 2, speed: 3}\n", ['job.yml:2:10: inputs.rate: 2 is beyond max 1', 'job.yml:2:19: inputs.speed: the component declares no input "speed"']),
    ("job.yml", "component: ./good.yml\ninputs: {rate: fast}\n", ['job.yml:2:10: inputs.rate: "fast" is not a number']),
    ("env.yml", "name: AzureML-mine\nimage: a:1\n", ['env.yml:1:1: name: "AzureML-mine": names that start so are Azure ML\'s own']),
    ("env.yml", "image: a:1\nos_typ: linux\n", ["env.yml:2:1: os_typ: unknown key; did you mean os_type?"]),
    ("env.yml", "image: a:1\nos_type: windows\n", ['env.yml:2:1: environment.os_type: "windows": every environment is Linux']),
    ("env.yml", "build: {path: image}\n", ["env.yml:1:1: build: COPY takes files from"]),
    ("env.yml", "image: a:1\nbuild: {path: image}\n", ["env.yml:1:1: environment.image: and build are two bases"]),
    ("cpu.yml", "type: amlcompute\nname: cpu\nsize: Standard_X\n", ['cpu.yml:3:1: size: "Standard_X" is not a size that is known here']),
    ("cpu.yml", "type: amlcompute\nsize: Standard_D2s_v3\n", ["cpu.yml:1:1: name: is missing"]),
    ("cpu.yml", "type: amlcompute\nname: local\nsize: Standard_D2s_v3\nmin_instances: 2\nmax_instance: 3\n", ['cpu.yml:2:1: name: "local" is not a name', "cpu.yml:4:1: min_instances: 2 exceeds max_instances", "cpu.yml:5:1: max_instance: unknown key; did you mean max_instances?"]),
    ("cpu.yml", "type: amlcompute\nname: cpu\nsize: Standard_D2s_v3\ntier: cheap\nmax_instances: many\n", ['cpu.yml:4:1: tier: "cheap" is not a tier', 'cpu.yml:5:1: max_instances: "many" is not a number of nodes']),
    ("a.runconfig", "script: none.py\n", ['a.runconfig:1:1: script: "none.py" is not a file in']),
    ("a.runconfig", "scirpt: train.py\n", ["a.runconfig:1:1: scirpt: unknown key; did you mean script?", "a.runconfig:1:1: script: is missing"]),
    ("a.runconfig", "script: train.py\nenvironment: {docker: {baseImag: x}}\n", ["a.runconfig:2:24: environment.docker.baseImag: unknown key; did you mean baseImage?"]),
    ("a.runconfig", "script: train.py\nenvironment: {python: {condaDependenciesFile: c.yml}}\n", ['a.runconfig:2:24: environment.python.condaDependenciesFile: "c.yml" is not a file in']),
    ("a.runconfig", "script: train.py\nframework: Rust\n", ['a.runconfig:2:1: framework: "Rust" is not one of Python']),
    ("a.runconfig", "script: train.py\ntarget: amlcompute\n", ['a.runconfig:2:1: target: "amlcompute" makes a pool for one run']),
    ("a.runconfig", "script: train.py\nnodeCount: none\n", ['a.runconfig:2:1: resources.instance_count: "none" is not a number of nodes']),
    ("a.runconfig", "script: train.py\ncommand: x\n", ["a.runconfig:2:1: command: stands beside script"]),
    ("a.runconfig", "script: train.py\nframework: PyTorch\nnodeCount: 2\npytorch: {processCount: 3}\n", ["a.runconfig:4:11: pytorch.processCount: 3 is not a multiple of nodeCount"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), BAD)
def test_a_malformed_file_is_refused_with_line_and_column(
    tmp_path: Path, name: str, text: str, said: list[str]
) -> None:
    files = {
        "train.py": "", name: text, "bad.yml": "command: x\ncomand: y\nenvironment: {image: a}\n", "image/a.txt": "",
        "good.yml": "inputs: {rate: {type: number, max: 1}}\ncommand: x ${{inputs.rate}}\nenvironment: {image: 'a:1'}\n",
        "image/Dockerfile": "FROM a:1\nCOPY a.txt /\n",
    }  # fmt: skip
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)

    with pytest.raises((BadInput, BadInputs)) as refused:
        convert(tmp_path / name, tmp_path, "snapshot", NOBODY_ASKED)

    lines = str(refused.value).splitlines()
    assert len(said) == len(lines), lines
    for expected, line in zip(said, lines, strict=True):
        assert line.startswith(expected)
    assert 2 == refused.value.exit_code
