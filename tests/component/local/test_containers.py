"""A local run in its image: docker and podman are asked for it, and all else is as in every local run.

The tool here is a stand-in that keeps its words and runs the command on this machine; `tools/try_local_runtime.py` does
the same with a real one.
"""

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from stoker.core.environment.definition import Definition
from stoker.core.environment.keys import definition_key
from stoker.local import containers
from stoker.local.containers import Container
from stoker.runtime.layout import Scratch
from stoker.sdk.containers import platform_here, recorded
from tests.support import container_tool
from tests.support.cli import Cli

DIGEST = "sha256:" + "2" * 64


class Tool:
    """The stand-in, in a folder on the project's PATH."""

    def __init__(self, cli: Cli, folder: Path, name: str) -> None:
        (folder / "state" / "running").mkdir(parents=True)
        program = folder / name
        program.write_text(f"#!{sys.executable}\n" + Path(container_tool.__file__).read_text())
        program.chmod(0o755)
        self.state = folder / "state"
        cli.env["PATH"] = f"{folder}:/usr/bin:/bin"

    def calls(self, verb: str) -> list[list[str]]:
        """The words of each call so far that began so."""
        listed = map(json.loads, (self.state / "calls.jsonl").read_text().splitlines())
        return [words for words in listed if words[0] == verb]


@pytest.fixture
def docker(cli: Cli, tmp_path: Path) -> Tool:
    cli.write(job__yaml=job("echo $HOME && touch outputs/made && exit 3"))
    return Tool(cli, tmp_path / "bin", "docker")


def job(command: str, more: str = "") -> str:
    return f"command: {json.dumps(command)}\nenvironment: {{image: 'team/train:1'}}\n{more}"


def record(cli: Cli, name: str = "job.json") -> dict:
    found = max((cli.folder / ".stoker" / "jobs").glob(f"*-*/{name}"), key=lambda path: path.stat().st_mtime)
    return json.loads(found.read_text())


def test_the_command_runs_in_the_image_and_its_outputs_are_kept(cli: Cli, docker: Tool) -> None:
    done = cli("run", "--local-runtime", "docker", code=3)

    (words,) = docker.calls("run")
    assert ["team/train:1", "sh", "-c", "echo $HOME && touch outputs/made && exit 3"] == words[-4:]
    assert ["made"] == [Path(one["path"]).name for one in record(cli, "result.json")["outputs"]]
    assert done.stdout.strip().endswith("/r0/home"), "of the container, not of the user"


def test_the_image_is_pulled_once_and_its_digest_is_in_the_record(cli: Cli, docker: Tool) -> None:
    cli("run", "--local-runtime", "docker", code=3)
    cli("run", "--local-runtime", "docker", code=3)

    key = definition_key(Definition(image="docker.io/team/train:1"))
    assert [["pull", "--quiet", "team/train:1"]] == docker.calls("pull")
    assert {"reference": "team/train:1", "digest": DIGEST} == record(cli)["image"]
    assert {"definitionKey": key, "source": "given", "runtime": "docker"} == record(cli)["environment"]


def test_variables_are_the_jobs_and_none_of_the_shells(cli: Cli, docker: Tool) -> None:
    cli.env |= {"SHELLS_OWN": "1", "STOKER_SECRET_token": "s3cret"}
    cli.write(
        job__yaml=job(
            "env",
            "environment_variables: {A: 'x y', PATH: /bin:/usr/bin, DOCKER_HOST: 'tcp://none'}\n"
            "inputs: {lr: 0.1, token: {secret_ref: {name: s, key: k}}}\n",
        )
    )
    done = cli("run", "--local-runtime", "docker")

    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert ("x y", "/bin:/usr/bin", "tcp://none") == (seen["A"], seen["PATH"], seen["DOCKER_HOST"])
    assert ("0.1", "s3cret", "0", "1") == tuple(
        seen[name] for name in ("STOKER_INPUT_lr", "STOKER_INPUT_token", "STOKER_RANK", "PYTHONUNBUFFERED")
    )
    assert set() == {"SHELLS_OWN", "STOKER_SECRET_token", "VIRTUAL_ENV", "COLUMNS"} & seen.keys()
    assert "s3cret" not in json.dumps(docker.calls("run")), "other users of the machine see a process's words"


def test_folders_keep_their_paths(cli: Cli, docker: Tool) -> None:
    (cli.folder / "data").mkdir()
    (cli.folder / "data" / "rows").write_text("7\n")
    cli.write(job__yaml=job("cat $STOKER_INPUT_data/rows", "inputs: {data: {type: uri_folder, path: ./data}}\n"))

    done = cli("run", "--local-runtime", "docker")

    (words,) = docker.calls("run")
    mounts = [words[index + 1] for index, word in enumerate(words) if word == "--mount"]
    scratch = Path(words[words.index("--workdir") + 1]).parent
    data = cli.folder / "data"
    assert ["7"] == done.stdout.splitlines()
    assert [
        f"type=bind,source={scratch},target={scratch}",
        f"type=bind,source={data},target={data},readonly",
    ] == mounts


def test_ctrl_c_stops_the_command_and_leaves_no_container(cli: Cli, docker: Tool) -> None:
    cli.write(job__yaml=job("trap 'touch outputs/stopped; exit 9' INT TERM; echo up; sleep 60 & wait"))
    run = cli.start("run", "--local-runtime", "docker")
    assert "up\n" == run.stdout.readline()  # type: ignore[union-attr]

    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)

    assert 130 == run.returncode, err
    assert ["stopped"] == [Path(one["path"]).name for one in record(cli, "result.json")["outputs"]]
    assert [] == list((docker.state / "running").iterdir())


def test_a_second_ctrl_c_ends_the_container_though_the_tool_is_killed(cli: Cli, docker: Tool) -> None:
    cli.write(job__yaml=job("trap '' INT TERM; echo up; while :; do sleep 0.1; done"))
    run = cli.start("run", "--local-runtime", "docker")
    assert "up\n" == run.stdout.readline()  # type: ignore[union-attr]
    (running,) = (docker.state / "running").iterdir()

    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)

    assert 130 == run.returncode, err
    assert [["rm", "--force", running.name]] == docker.calls("rm")
    assert [] == list((docker.state / "running").iterdir())


def test_an_image_that_cannot_be_pulled_is_told_before_anything_runs(cli: Cli, docker: Tool) -> None:
    cli.write(job__yaml=job("true").replace("team/train:1", "nowhere/train:1"))

    done = cli("run", "--local-runtime", "docker", code=125)

    assert "docker could not pull nowhere/train:1: Error: nowhere/train:1: not found" in done.stderr
    assert [] == docker.calls("run")


def test_a_tool_that_is_not_there_is_named_with_one_that_is(cli: Cli, docker: Tool) -> None:
    done = cli("run", "--local-runtime", "podman", code=2)

    assert "--local-runtime: podman is not installed; use --local-runtime docker" in done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ("image: 'team/train:1'\nconda_file: {dependencies: [numpy]}", "packages"),
        ("pip: [numpy]", "packages"),
    ],
)
def test_an_image_that_cannot_be_the_environment_is_not_run(
    cli: Cli, docker: Tool, environment: str, words: str
) -> None:
    text = environment.replace("\n", ", ")
    cli.write(job__yaml=f"command: 'true'\nenvironment: {{{text}}}\n")

    done = cli("run", "--local-runtime", "docker", code=2)

    assert f"has {words}, and no cluster that answers has an image of it" in done.stderr
    assert not (docker.state / "calls.jsonl").exists()


def test_packages_that_must_be_in_a_given_image_are_told(cli: Cli, docker: Tool) -> None:
    cli.write(job__yaml="command: 'true'\nenvironment: {image: 'team/train:1', pip: [numpy, pandas]}\n")

    done = cli("run", "--local-runtime", "docker")

    assert "team/train:1 is run as it is given: 2 packages of job.yaml must be in it" in done.stderr


def test_docker_steps_are_refused_by_name_without_a_runtime(cli: Cli) -> None:
    cli.write(
        environment__yaml="apiVersion: stoker.dev/v1alpha1\nkind: Environment\nmetadata: {name: e}\n"
        "spec: {image: 'python:3.12', dockerSteps: ['RUN apt-get install -y git']}\n",
        train__py="print(1)\n",
    )
    done = cli("run", "train.py", "--environment", "environment.yaml", code=2)

    assert 'the step "RUN apt-get install -y git" cannot run on this machine' in done.stderr
    assert "--local-runtime docker" in done.stderr
    assert not (cli.folder / ".stoker").exists(), "refused before anything is done"


@pytest.mark.parametrize("flag", [["--local-runtime", "docker"], ["--refresh-environment"]])
def test_flags_of_local_runs_are_refused_for_a_cluster(cli: Cli, docker: Tool, flag: list[str]) -> None:
    done = cli("run", "--compute", "cpu", *flag, code=2)

    assert f"{flag[0]}: belongs to local runs" in done.stderr


@pytest.mark.parametrize(
    ("key", "platform", "expected"),
    [
        ("aa", "linux/amd64", "r/environments@sha256:1"),
        ("aa", "linux/arm64", ""),
        ("bb", "linux/amd64", ""),
    ],
)
def test_a_clusters_image_serves_for_the_same_definition_and_platform(key: str, platform: str, expected: str) -> None:
    image = {"platform": "linux/amd64", "image": "r/environments@sha256:1"}
    environments = [{"spec": {}}, {"status": {"definitionKey": "aa", "images": [image]}}]

    assert expected == recorded(environments, key, platform)


def test_a_local_rank_of_several_is_found_at_this_machines_loopback(tmp_path: Path) -> None:
    scratch = Scratch(str(tmp_path))
    words = containers.command(Container("docker", "docker", "a:1"), "r0", scratch, "true", {}, host_network=True)

    assert "host" == words[words.index("--network") + 1]


def test_rootless_podman_keeps_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers.os, "getuid", lambda: 1234)
    monkeypatch.setattr(containers.os, "getgid", lambda: 55)
    words = containers.command(Container("podman", "podman", "a:1"), "r0", Scratch(str(tmp_path)), "true", {})

    assert "1234:55" == words[words.index("--user") + 1]
    assert "--userns=keep-id" in words


def test_this_machines_platform_is_one_of_images() -> None:
    assert platform_here() in ("linux/amd64", "linux/arm64")
