"""`stoker env hash` and `stoker env diff`: keys for people and for programs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.cli import Cli

DIGEST = "sha256:" + "1" * 64
ENVIRONMENT = """\
apiVersion: stoker.dev/v1alpha1
kind: Environment
metadata: {name: torch}
spec:
  image: python:3.12-slim
  conda: {dependencies: [python=3.11, numpy<2]}
  dockerSteps: [RUN true]
"""
MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
OF_ARM = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "manifests": [
            {"mediaType": MANIFEST_TYPE, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
            for name, digest in (("amd64", DIGEST), ("arm64", OF_ARM))
        ],
    }
).encode()


class Answers(BaseHTTPRequestHandler):
    """A registry with one image for two platforms."""

    def do_GET(self) -> None:
        there = self.path == "/v2/ml/base/manifests/1"
        self.send_response(200 if there else 404)
        self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
        self.send_header("Content-Length", str(len(INDEX) if there else 0))
        self.end_headers()
        self.wfile.write(INDEX if there else b"")

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_json_of_a_definition_with_a_known_base(cli: Cli) -> None:
    cli.write(env__yaml=ENVIRONMENT)

    found = cli.json("env", "hash", "env.yaml", "--base-digest", DIGEST)

    canonical = {
        "image": "docker.io/library/python:3.12-slim",
        "steps": ["RUN true"],
        "contextDigest": None,
        "conda": {"channels": ["conda-forge"], "dependencies": ["numpy <2", "python 3.11.*"]},
        "pip": None,
        "cacheEpoch": 0,
    }
    base = f"docker.io/library/python@{DIGEST}"
    spec = {**canonical, "base": base, "platform": "linux/amd64"}
    del spec["image"]
    steps = {"base": base, "platform": "linux/amd64", "steps": ["RUN true"], "contextDigest": None}
    assert {
        "definitionKey": _sha256("env-def/v1", canonical),
        "specKey": _sha256("env-spec/v1", spec),
        "stepsKey": _sha256("env-steps/v1", steps),
        "lockKey": None,
        "platform": "linux/amd64",
        "base": base,
        "canonical": canonical,
    } == found


def _sha256(domain: str, content: dict[str, Any]) -> str:
    """As anybody can compute it: for ASCII texts and whole numbers RFC 8785 is this."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{domain}\n{text}".encode()).hexdigest()


def test_azures_file_a_conda_file_and_our_manifest_have_one_key(cli: Cli) -> None:
    cli.write(
        env__yaml=ENVIRONMENT.replace("  dockerSteps: [RUN true]\n", ""),
        azure__yaml="name: t\nversion: 3\nimage: python:3.12-slim\nconda_file: conda.yaml\n",
        conda__yaml="# ours\nname: x\nchannels:\n- conda-forge\ndependencies:\n- numpy <2\n- python=3.11\n",
    )
    flags = ("--base-digest", DIGEST, "-o", "name")

    keys = {
        cli("env", "hash", *arguments, *flags).stdout
        for arguments in (("env.yaml",), ("azure.yaml",), ("conda.yaml", "--image", "python:3.12-slim"))
    }

    assert 1 == len(keys)


def test_a_folder_a_job_file_and_the_environment_in_it_have_one_key(cli: Cli) -> None:
    cli.write(
        env__yaml="image: python:3.12-slim\npip: [numpy]\n",
        job__yaml="command: python t.py\ncode: .\nenvironment: {image: 'python:3.12-slim', pip: [numpy]}\n",
    )
    flags = ("--base-digest", DIGEST, "-o", "name")

    keys = {cli("env", "hash", *target, *flags).stdout for target in ((), (".",), ("job.yaml",), ("env.yaml",))}

    assert 1 == len(keys)
    assert cli("env", "diff", ".", "env.yaml").stdout.startswith("equal: ")


def test_a_folder_without_a_job_file_means_the_packages_that_run_would_find(cli: Cli) -> None:
    cli.write(requirements__txt="numpy\n", job__yaml="command: x\ncode: .\n")

    of_job, of_file = (cli("env", "hash", target, "-o", "name").stdout for target in (".", "requirements.txt"))
    (cli.folder / "job.yaml").unlink()

    assert of_job == of_file == cli("env", "hash", "-o", "name").stdout


def test_the_registry_tells_the_digest_of_the_platform(cli: Cli, registry: str) -> None:
    cli.write(env__yaml=ENVIRONMENT.replace("python:3.12-slim", f"{registry}/ml/base:1"))

    bases = [
        cli.json("env", "hash", "env.yaml", "--insecure-registry", registry, "--platform", platform)["base"]
        for platform in ("linux/amd64", "linux/arm64")
    ]

    assert [f"{registry}/ml/base@{DIGEST}", f"{registry}/ml/base@{OF_ARM}"] == bases


def test_without_a_digest_of_the_base_the_content_has_its_key_and_the_rest_is_told(cli: Cli, registry: str) -> None:
    cli.write(
        env__yaml=ENVIRONMENT.replace("python:3.12-slim", f"{registry}/ml/none:1"), conda__yaml="dependencies: [a]\n"
    )

    done = cli("env", "hash", "env.yaml", "--insecure-registry", registry, "-o", "json")
    found = json.loads(done.stdout)

    assert "has no such image" in done.stderr
    assert "add --base-digest sha256:..." in done.stderr
    assert (64, None, None) == (len(found["definitionKey"]), found["specKey"], found["stepsKey"])
    assert "add --image IMAGE" in cli("env", "hash", "conda.yaml").stderr


def test_a_person_sees_keys_and_what_went_in(cli: Cli) -> None:
    cli.write(env__yaml=ENVIRONMENT)

    shown = cli("env", "hash", "env.yaml", "--base-digest", DIGEST).stdout

    assert "lockKey         known once the packages have been chosen\nplatform        linux/amd64\n" in shown
    assert "conda:\n  channels:\n  - conda-forge\n  dependencies:\n  - numpy <2\n  - python 3.11.*\n" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("env", "hash", "env.yaml", "--base-digest", "latest"), "--base-digest: 'latest' is not a digest"),
        (("env", "hash", "env.yaml", "--image", "b:1"), "--image: env.yaml names a base of its own"),
        (("env", "hash", "bad.txt"), "bad.txt:2: pip[1]: '../x' is a path on a machine"),
        (("env", "hash", "none.yaml"), "does not exist"),
        (("env", "hash", "empty"), "empty has none of job.yaml, job.yml, conda.yaml"),
        (("env", "hash", "named.yaml"), "names Environment/torch of the cluster; see its keys: stoker env show torch"),
        (("env", "hash", "job.yaml", "--image", "b:1"), "--image: job.yaml names a base of its own"),
        (("env", "hsah"), "did you mean hash?"),
    ],
)
def test_what_cannot_be_meant_is_told(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    (cli.folder / "empty").mkdir()
    cli.write(
        env__yaml=ENVIRONMENT,
        bad__txt="numpy\n../x\n",
        named__yaml="command: x\nenvironment: torch\n",
        job__yaml="command: x\nenvironment: {image: a}\n",
    )

    assert words in cli(*arguments, code=2).stderr


def test_diff_names_what_differs(cli: Cli) -> None:
    cli.write(one__yaml="dependencies: [python=3.11, numpy<2]\n", other__yaml=ENVIRONMENT)

    shown = cli("env", "diff", "one.yaml", "other.yaml", "--image", "python:3.12-slim").stdout
    found = cli.json("env", "diff", "one.yaml", "other.yaml", "--exit-code", code=1)

    assert "steps[0]\n  + RUN true\n" == shown
    assert False is found["equal"]
    assert {"input": "image", "a": None, "b": "docker.io/library/python:3.12-slim"} == found["differences"][0]
    assert "equal: " in cli("env", "diff", "one.yaml", "one.yaml", "--exit-code").stdout
