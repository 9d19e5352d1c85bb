"""What a person types becomes a draft: targets, flags over files, scripts, environments."""

import json
from pathlib import Path
from typing import Any

import pytest

from stoker.errors import BadInput, BadInputs
from stoker.sdk import manifest
from stoker.sdk.ask import Flags, ask, check_code, check_for_cluster, compute_of
from stoker.sdk.draft import Draft


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("print(1)\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.csv").write_text("1\n")
    (tmp_path / "job.yaml").write_text(
        "command: python train.py --lr ${{inputs.lr}} --data ${{inputs.data}}\ncode: .\n"
        "inputs: {lr: 0.10, data: {type: uri_folder, path: ./data}}\n"
        "environment: {image: 'ml:1', pip: [numpy]}\nresources: {instance_count: 2, shm_size: 2g}\n"
        "limits: {timeout: 1h30m}\nenvironment_variables: {EPOCHS: 3, FLAG: true}\ntags: {a: 1}\n"
    )
    return tmp_path


def written(draft: Draft) -> dict[str, Any]:
    document: dict[str, Any] = manifest.plain_data(
        manifest.write(
            draft, "n", "team", "sha256:" + "1" * 64, dict.fromkeys(draft.local_inputs, "sha256:" + "2" * 64)
        )
    )
    return document


def test_a_job_file_becomes_a_training_job(project: Path) -> None:
    draft = ask(project, (), Flags(compute="cpu"), project)

    assert written(draft) == {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "n", "namespace": "team"},
        "spec": {
            "type": "command",
            "tags": {"a": "1"},
            "limits": {"timeoutSeconds": 5400},
            "compute": "cpu",
            "inputs": {
                "lr": {"value": "0.10"},
                "data": {"type": "uri_folder", "path": "snapshot:sha256:" + "2" * 64, "mode": "download"},
            },
            "command": {
                "command": "python train.py --lr ${{inputs.lr}} --data ${{inputs.data}}",
                "env": [{"name": "EPOCHS", "value": "3"}, {"name": "FLAG", "value": "true"}],
                "resources": {"instanceCount": 2, "shmSize": "2Gi"},
                "code": {"snapshot": "sha256:" + "1" * 64},
                "environment": {"spec": {"image": "ml:1", "pip": ["numpy"]}},
            },
        },
    }


def test_flags_win_over_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_SHELL", "s")
    flags = Flags(
        environment="other:2", name="mine", experiment="e", tags=("b=2",), env=("EPOCHS=9", "FROM_SHELL"),
        set=("inputs.lr=0.5", "inputs.data=data/x.csv", "inputs.data.type=uri_file"), instance_count=3, timeout="90",
    )  # fmt: skip

    draft = ask(project / "job.yaml", (), flags, project)
    spec = written(draft)["spec"]

    assert ("mine", "e", 90) == (draft.name, spec["experiment"], spec["limits"]["timeoutSeconds"])
    assert {"a": "1", "b": "2"} == spec["tags"]
    assert {"EPOCHS": "9", "FLAG": "true", "FROM_SHELL": "s"} == {e["name"]: e["value"] for e in spec["command"]["env"]}
    assert {"spec": {"image": "other:2", "pip": ["numpy"]}} == spec["command"]["environment"]
    assert {"value": "0.5"} == spec["inputs"]["lr"]
    assert "uri_file" == spec["inputs"]["data"]["type"]
    assert 3 == spec["command"]["resources"]["instanceCount"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (Flags(set=("inputs.lrr=1",)), 'declares no input "lrr"; did you mean lr?'),
        (Flags(set=("inputs.lr",)), "is not PATH=VALUE"),
        (Flags(env=("NOT_SET_HERE",)), "not set in this shell"),
        (Flags(env=("STOKER_X=1",)), "Stoker's own"),
        (Flags(tags=("x",)), "--tag"),
        (Flags(timeout="soon"), "--timeout"),
        (Flags(instance_count=0), "--instance-count"),
        (Flags(name="No Good"), "for example no-good"),
        (Flags(compute="UPPER"), "--compute"),
        (Flags(environment="nope.txt"), "--environment"),
    ],
)
def test_bad_flags_are_named(project: Path, flags: Flags, words: str) -> None:
    with pytest.raises((BadInput, BadInputs)) as refused:
        ask(project, (), flags, project)

    assert words in str(refused.value)


def test_a_script_runs_in_the_current_folder(project: Path) -> None:
    draft = ask(project / "train.py", ("--lr", "0.1", "a b"), Flags(), project)

    assert ("python train.py --lr 0.1 'a b'", project) == (draft.command, draft.code)


def test_a_script_must_lie_in_the_code(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    with pytest.raises(BadInput, match="does not lie in the code folder"):
        ask(project / "train.py", (), Flags(), elsewhere)


def test_home_and_root_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    for folder in (project, Path("/")):
        with pytest.raises(BadInput, match="would send everything"):
            check_code(folder)


@pytest.mark.parametrize(
    ("files", "source", "pip"),
    [
        ({"requirements.txt": "numpy>=1\n# no\n"}, "requirements.txt", ("numpy>=1",)),
        ({"requirements.txt": "a\n", "conda.yaml": "dependencies: [python=3.11, pip, {pip: [b]}]\n"}, "conda.yaml", ("b",)),
        ({"requirements.txt": "-r more.txt\na\n", "more.txt": "b ; python_version > '3'\n"}, "requirements.txt", ("a", 'b ; python_version > "3"')),
    ],
)  # fmt: skip
def test_a_projects_own_list_is_found(tmp_path: Path, files: dict[str, str], source: str, pip: tuple[str, ...]) -> None:
    for name, text in {**files, "t.py": ""}.items():
        (tmp_path / name).write_text(text)

    asked = ask(tmp_path / "t.py", (), Flags(), tmp_path).environment

    assert asked is not None
    assert (source, pip) == (asked.source, asked.pip)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-e .\n", "an editable install is a folder on your machine"),
        ("./local\n", "is a path on a machine"),
        ("numpy=1\n", "write numpy==1"),
        ("-r none.txt\n", "no such file"),
        ("-c limits.txt\n", "no such file"),
    ],
)
def test_lines_that_are_no_packages_are_refused_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "requirements.txt").write_text("# first\n" + text)
    (tmp_path / "t.py").touch()

    with pytest.raises((BadInput, BadInputs)) as refused:
        ask(tmp_path / "t.py", (), Flags(), tmp_path)

    assert words in str(refused.value)
    assert "requirements.txt:2" in str(refused.value)


def test_a_list_with_bounds_and_a_folder_of_wheels_is_taken_in(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "--find-links wheels\n-c bounds.txt\n--extra-index-url https://x.example.com/simple/\nTorch\n"
    )
    (tmp_path / "bounds.txt").write_text("numpy<2  # for a while\n")
    (tmp_path / "t.py").touch()

    asked = ask(tmp_path / "t.py", (), Flags(compute="cpu"), tmp_path).environment

    assert asked is not None
    assert (("torch",), ("numpy<2",)) == (asked.pip, asked.constraints)
    assert ("--extra-index-url https://x.example.com/simple", f"--find-links {tmp_path / 'wheels'}") == asked.options
    with pytest.raises(BadInput, match="a folder of this machine"):
        check_for_cluster(ask(tmp_path / "t.py", (), Flags(compute="cpu"), tmp_path))


@pytest.mark.parametrize(
    ("flag", "kind", "field", "value"),
    [
        ("system", "system", "source", "--environment"),
        ("torch", "name", "name", "torch"),
        ("ml/train:1", "packages", "image", "ml/train:1"),
        (f"ml@sha256:{'0' * 64}", "packages", "image", f"ml@sha256:{'0' * 64}"),
    ],
)
def test_an_environment_flag_means_what_it_looks_like(
    tmp_path: Path, flag: str, kind: str, field: str, value: str
) -> None:
    (tmp_path / "t.py").touch()

    asked = ask(tmp_path / "t.py", (), Flags(environment=flag), tmp_path).environment

    assert asked is not None
    assert (kind, value) == (asked.kind, getattr(asked, field))


@pytest.mark.parametrize(("flag", "words"), [("system", "on this machine"), (None, "needs an image")])
def test_what_runs_here_alone_is_refused_for_a_cluster(tmp_path: Path, flag: str | None, words: str) -> None:
    (tmp_path / "t.py").touch()
    draft = ask(tmp_path / "t.py", (), Flags(environment=flag), tmp_path)

    with pytest.raises(BadInput, match=words):
        check_for_cluster(draft)


def test_compute_is_the_flag_then_the_file_then_the_project_then_here(project: Path) -> None:
    asked = ask(project, (), Flags(), project)

    assert "gpu" == compute_of(ask(project, (), Flags(compute="gpu"), project), "setting")
    assert "setting" == compute_of(asked, "setting")
    assert "local" == compute_of(asked, None)


def test_a_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "apiVersion: stoker.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: iris, namespace: team, labels: {a: b}}\n"
        "spec:\n  compute: cpu\n  inputs: {lr: {value: '0.1'}}\n  command:\n    command: python t.py\n"
        "    code: {inline: {t.py: 'print(1)'}}\n    environment: {name: torch}\n"
    )

    draft = ask(tmp_path / "m.yaml", (), Flags(set=("inputs.lr=0.2",)), tmp_path)
    document = manifest.write(draft, draft.name or "", "team", None, {})

    assert {"name": "iris", "namespace": "team", "labels": {"a": "b"}} == document["metadata"]
    assert {"name": "torch"} == document["spec"]["command"]["environment"]
    assert {"inline": {"t.py": "print(1)"}} == document["spec"]["command"]["code"]
    assert {"lr": {"value": "0.2"}} == document["spec"]["inputs"]
    assert "cpu" == document["spec"]["compute"]


def with_secrets(folder: Path) -> Path:
    (folder / "train.py").write_text("print(1)\n")
    (folder / "job.yaml").write_text(
        "command: python train.py ${{inputs.token}}\ncode: .\ninputs: {token: {secret_ref: {name: hf, key: token}}}\n"
    )
    return folder


def test_a_secret_of_a_job_file_is_an_input_by_reference(tmp_path: Path) -> None:
    made = written(ask(with_secrets(tmp_path), (), Flags(compute="cpu"), tmp_path))

    assert made["spec"]["inputs"] == {"token": {"secretRef": {"name": "hf", "key": "token"}}}


def test_a_secret_is_not_set_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"inputs\.token is a secret.*export STOKER_SECRET_token") as refused:
        ask(with_secrets(tmp_path), (), Flags(set=("inputs.token=canary",)), tmp_path)

    assert "canary" not in str(refused.value)


def test_a_variable_on_the_command_line_leaves_those_from_secrets_as_they_are(tmp_path: Path) -> None:
    drawn = {"name": "WANDB", "valueFrom": {"secretKeyRef": {"name": "w", "key": "k"}}}
    document = {
        "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "iris"},
        "spec": {
            "compute": "cpu",
            "command": {"command": "true", "environment": {"spec": {"image": "ml:1"}}, "env": [drawn]},
        },
    }  # fmt: skip
    (tmp_path / "iris.yaml").write_text(json.dumps(document))

    made = written(ask(tmp_path / "iris.yaml", (), Flags(env=("A=1",)), tmp_path))

    assert made["spec"]["command"]["env"] == [drawn, {"name": "A", "value": "1"}]
