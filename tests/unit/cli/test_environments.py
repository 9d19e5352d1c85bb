"""What a project says of its environment becomes a manifest that a cluster can build, with every file taken in."""

from pathlib import Path
from typing import Any

import pytest

from stoker.api.validate import problems
from stoker.core.environment import keys
from stoker.errors import BadInput, BadInputs
from stoker.sdk import ask, manifest
from stoker.sdk.definitions import of_file
from stoker.sdk.draft import EnvironmentAsked
from stoker.sdk.prepare import prepare

JOB = "command: python train.py\ncode: .\ncompute: cpu\n"
TOOL = "#!/bin/sh\necho tool\n"


def asked(folder: Path, job: str | None = None, flags: ask.Flags | None = None, **files: str) -> EnvironmentAsked:
    """The environment of a job file, or of a script where there is none, as it is sent."""
    written = {
        "train.py": "print(1)\n",
        **{name.replace("__", ".").replace("_SL_", "/"): text for name, text in files.items()},
    }
    if job is not None:
        written["job.yaml"] = job
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    draft = ask.ask(folder if job is not None else folder / "train.py", (), flags or ask.Flags(), folder)
    ask.check_for_cluster(draft)
    prepared = prepare(draft, with_inputs=True)
    document = manifest.plain_data(manifest.write(prepared.draft, "run-1", "team", "sha256:" + "0" * 64, {}))
    assert problems("TrainingJob", document) == []
    found = prepared.draft.environment
    assert found is not None
    assert {"spec": manifest.plain_data(found.spec)} == document["spec"]["command"]["environment"]
    return found


def test_a_conda_file_and_its_requirements_are_taken_in(tmp_path: Path) -> None:
    found = asked(
        tmp_path,
        JOB + "environment:\n  image: python:3.12-slim\n  conda_file: envs/conda.yaml\n",
        envs_SL_conda__yaml="name: mine\nchannels: [conda-forge]\ndependencies:\n- python=3.11\n- lightgbm\n- pip:\n  - -r more.txt\n  - mlflow\n",
        envs_SL_more__txt="-c bounds.txt\ntorch  # for the model\n",
        envs_SL_bounds__txt="numpy<2\n",
    )

    assert {
        "image": "python:3.12-slim",
        "conda": {
            "channels": ["conda-forge"],
            "dependencies": ["python=3.11", "lightgbm", {"pip": ["-c numpy<2", "torch", "mlflow"]}],
        },
    } == found.spec
    assert (("mlflow", "torch"), ("numpy<2",), "3.11.*", ("lightgbm",)) == (
        found.pip, found.constraints, found.python, found.conda_packages,
    )  # fmt: skip


def test_docker_steps_stay_in_order_and_read_the_code(tmp_path: Path) -> None:
    job = JOB + (
        "environment:\n  image: ubuntu:24.04\n  context: docker\n  docker_steps:\n  - RUN --mount=type=secret,id=hf true\n"
        "  - COPY tool.sh /usr/local/bin/\n  secrets:\n  - {id: hf, secret_ref: {name: tokens, key: hf}}\n"
    )
    found = asked(tmp_path, job, docker_SL_tool__sh=TOOL)

    assert {
        "image": "ubuntu:24.04",
        "context": "docker",
        "dockerSteps": ["RUN --mount=type=secret,id=hf true", "COPY tool.sh /usr/local/bin/"],
        "secrets": [{"id": "hf", "secretRef": {"name": "tokens", "key": "hf"}}],
    } == found.spec
    assert found.definition is not None
    other = asked(tmp_path, job, docker_SL_tool__sh=TOOL + "# more\n").definition
    assert other is not None
    assert found.definition.context_digest != other.context_digest


@pytest.mark.parametrize("copies", [True, False])
def test_azures_build_of_a_dockerfile_becomes_a_base_and_steps(tmp_path: Path, copies: bool) -> None:
    dockerfile = "ARG V=3.12\nFROM python:$V-slim\nENV A=1\n" + ("COPY tool.sh /usr/local/bin/\n" if copies else "")
    found = asked(
        tmp_path,
        JOB + "environment:\n  build: {path: docker, dockerfile_path: Dockerfile.cpu}\n",
        docker_SL_Dockerfile__cpu=dockerfile,
        docker_SL_tool__sh=TOOL,
    )

    steps = ["ENV A=1", *(["COPY tool.sh /usr/local/bin/"] if copies else [])]
    context = {"context": "docker"} if copies else {}
    assert {"image": "python:3.12-slim", "dockerSteps": steps, **context} == found.spec


def test_a_context_beside_the_code_is_refused(tmp_path: Path) -> None:
    job = "command: python train.py\ncode: src\ncompute: cpu\nenvironment: {build: {path: docker}}\n"
    files = {"docker_SL_Dockerfile": "FROM a:1\nCOPY x /\n", "docker_SL_x": "", "src_SL_train__py": ""}

    with pytest.raises(BadInput, match="which is not in the code folder"):
        asked(tmp_path, job, **files)


def test_files_of_a_manifest_lie_in_the_code(tmp_path: Path) -> None:
    (tmp_path / "env.yaml").write_text(
        "apiVersion: stoker.dev/v1alpha1\nkind: Environment\nmetadata: {name: e}\nspec:\n"
        "  build: {dockerfile: docker/Dockerfile, bytecode: false}\n  condaFile: conda.yaml\n  pipFile: requirements.txt\n"
    )
    found = asked(
        tmp_path,
        flags=ask.Flags(environment="env.yaml", compute="cpu"),
        docker_SL_Dockerfile="FROM python:3.12\nCOPY tool.sh /\n",
        docker_SL_tool__sh=TOOL,
        conda__yaml="dependencies: [lightgbm>=4]\n",
        requirements__txt="--index-url https://pypi.example.com/simple\nmlflow\n",
    )

    assert {
        "build": {"bytecode": False},
        "conda": {"channels": ["conda-forge"], "dependencies": ["lightgbm >=4"]},
        "pip": ["--index-url https://pypi.example.com/simple", "mlflow"],
        "image": "docker.io/library/python:3.12",
        "dockerSteps": ["COPY tool.sh /"],
        "context": "docker",
    } == found.spec
    assert found.definition == of_file(tmp_path / "env.yaml", "env.yaml")


def test_an_image_of_the_flag_is_another_base_for_the_same_packages(tmp_path: Path) -> None:
    found = asked(
        tmp_path,
        JOB + "environment: conda.yaml\n",
        ask.Flags(environment="python:3.12-slim"),
        conda__yaml="dependencies: [python=3.11, lightgbm]\n",
    )

    assert {"image": "python:3.12-slim", "conda": {"dependencies": ["python=3.11", "lightgbm"]}} == found.spec
    assert "--environment, conda.yaml" == found.source


def test_a_list_without_an_image_is_for_the_workspace_to_complete(tmp_path: Path) -> None:
    assert {"pip": ["numpy"]} == asked(tmp_path, flags=ask.Flags(compute="cpu"), requirements__txt="numpy\n").spec


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("environment:\n  image: a:1\n  docker_steps:\n  - RUN true\n  - FROM b\n", "job.yaml:8: environment.dockerSteps[1]: FROM is not a step"),
        ("environment:\n  image: a:1\n  conda:\n    dependencies:\n    - numpy=\n", "job.yaml:8: environment.conda.dependencies[0]: 'numpy='"),
        ("environment:\n  image: a:1\n  conda: |\n    dependencies:\n    - numpy\n    - numpy=\n", "job.yaml:9: environment.conda.dependencies[1]: 'numpy='"),
        ("environment:\n  image: a:1\n  pip: [numpy]\n  pip_file: r.txt\n", "job.yaml:4:1: environment: has both pip and pip_file"),
        ("environment:\n  image: a:1\n  os_type: windows\n", "job.yaml:6:3: environment.os_type: \"windows\": every environment is Linux"),
        ("environment:\n  image: a:1\n  platforms: linux/amd64\n", "job.yaml:6: environment.platforms: 'linux/amd64' is text, not a list"),
        ("environment:\n  image: a:1\n  base_policy: Never\n", "job.yaml:6: environment.basePolicy: 'Never' is not one of Once, Always"),
        ("environment:\n  build: {path: docker, dockerfile_path: D}\n", "job.yaml:5:25: environment.build.dockerfile_path: there is no file D"),
        ("environment:\n  build: {path: ., dockerfile: Dockerfile.bad}\n", "Dockerfile.bad:3: environment.build: a second FROM"),
        ("environment:\n  image: a:1\n  context: docker\n", "job.yaml:6: environment.context: context belongs to docker steps"),
        ("environment:\n  image: a:1\n  pip_file: bad.txt\n", "bad.txt:2: environment.pip[1]: './x' is a path on a machine"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_before_anything_is_sent(tmp_path: Path, job: str, words: str) -> None:
    files = {"Dockerfile__bad": "FROM a:1\n\nFROM b:1\n", "bad__txt": "numpy\n./x\n", "r__txt": "a\n"}

    with pytest.raises((BadInput, BadInputs)) as refused:
        asked(tmp_path, JOB + job, **files)

    assert words in str(refused.value)
    assert "; " in str(refused.value)


def test_all_of_a_files_problems_are_told_at_once(tmp_path: Path) -> None:
    job = (
        "comand: x\ncompute: cpu\nenvironment: {image: 'a:1', docker_steps: [FROM b, MAINTAINER me], pip: [numpy=1]}\n"
    )

    with pytest.raises(BadInputs) as refused:
        asked(tmp_path, job)

    fields = [problem.field for problem in refused.value.problems]
    assert {"comand", "environment.dockerSteps[0]", "environment.dockerSteps[1]", "environment.pip[0]"} <= set(fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a.yaml": "name: e\nversion: 2\nimage: python:3.12\nconda_file: c.yaml\n", "c.yaml": "dependencies: [pip, {pip: [a]}]\n"},
         {"b.yaml": "kind: Environment\napiVersion: stoker.dev/v1alpha1\nmetadata: {name: x}\nspec:\n  image: docker.io/python:3.12\n  conda: 'dependencies: [{pip: [a]}, pip]'\n"}),
        ({"a.yaml": "image: python:3.12\npip: [b, a]\n"}, {"requirements.txt": "A\nb # b\n"}),
        ({"a.yaml": "image: python:3.12\ndocker_steps: |\n  RUN true\n  RUN false\n"}, {"Dockerfile": "FROM python:3.12\nRUN true\nRUN \\\nfalse\n"}),
    ],
)  # fmt: skip
def test_the_same_content_has_one_key_whatever_file_it_is_in(
    tmp_path: Path, one: dict[str, str], other: dict[str, str]
) -> None:
    for name, text in {**one, **other}.items():
        (tmp_path / name).write_text(text)
    found: list[Any] = [
        of_file(tmp_path / next(iter(files)), "x", "python:3.12", only_if_missing=True) for files in (one, other)
    ]

    assert keys.definition_key(found[0]) == keys.definition_key(found[1])
