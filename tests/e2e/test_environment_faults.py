"""What is around a build fails: registries, credentials, the operator itself. Nothing is built twice, and nothing assumed."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import registries
from tests.support.installed import Stoker
from tests.support.lab_environments import (
    builds,
    environment,
    eventually,
    image,
    job,
    over,
    remove,
    told,
    waiting_package,
    waits_for,
    workspace,
)

pytestmark = pytest.mark.lab
#: How long the registry is away, in seconds: longer than any one request to it is tried.
AWAY = 60


@pytest.fixture(scope="module", autouse=True)
def index(stoker: Stoker) -> None:
    stoker.lab.packages(lambda line: None)


@pytest.fixture(scope="module")
def abandoned(stoker: Stoker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, socket.socket]]:
    """A build that nobody wants any more, and the socket by which it waits: made before the others, for its minute passes
    while they run."""
    with waiting_package(stoker, tmp_path_factory.mktemp("abandoned")) as (pip, gate):
        stoker.apply(environment(stoker, "unwanted", pip=pip))
        building, _ = gate.accept()
        with closing(building):
            seen = stoker.until("environment", "unwanted", waits_for("Building"))
            (build,) = builds(stoker, seen["status"]["images"][0]["specKey"])
            remove(stoker, "environment/unwanted")
            yield build, building


def test_wrong_credentials_are_told_nothing_is_built_and_a_right_secret_mends_it(
    stoker: Stoker, tmp_path: Path
) -> None:
    host = stoker.lab.bridge_address
    with registries.registry(tmp_path, password=True, host=host) as guarded, stoker.namespace("guarded") as team:
        place = {"url": f"{guarded.address}/team", "insecure": True, "secretRef": {"name": "push"}}
        _secret(stoker, team, guarded.address, "wrong")
        stoker.apply(workspace(team, registry=place), environment(stoker, "torch", namespace=team, pip=["stoker-tiny"]))

        # The operator may not read a Secret that nobody gave it: it says so, and takes no registry's silence for a miss.
        assert "PullSecretForbidden" == told(stoker, "torch", team)[0]
        within, account = ("-n", team), "--serviceaccount=stoker-system:stoker-operator"
        stoker.lab.kubectl(
            "create", "role", "push", *within, "--verb=get", "--resource=secrets", "--resource-name=push"
        )
        stoker.lab.kubectl("create", "rolebinding", "push", *within, "--role=push", account)

        refused = stoker.cli("env", "build", "torch", "--again", *within, check=False)

        assert 1 == refused.returncode
        reason, message = told(stoker, "torch", team)
        assert "RegistryUnauthorized" == reason
        assert f"the registry {guarded.address} answered 401 with the given credentials" in message
        assert [] == builds(stoker, namespace=team)

        _secret(stoker, team, guarded.address, registries.PASSWORD)
        stoker.cli("env", "build", "torch", "--again", *within)

        found = image(stoker, "torch", team)
        assert "built" == found["source"]
        assert found["image"].startswith(f"{guarded.address}/team/environments@sha256:")
        assert 1 == len(builds(stoker, namespace=team))


def _secret(stoker: Stoker, namespace: str, host: str, password: str) -> None:
    made = stoker.lab.kubectl(
        "create", "secret", "docker-registry", "push", "-n", namespace, f"--docker-server={host}",
        f"--docker-username={registries.USER}", f"--docker-password={password}", "--dry-run=client", "-o", "json",
    )  # fmt: skip
    stoker.lab.kubectl("apply", "-f", "-", input=made)


@pytest.mark.usefixtures("abandoned")
def test_a_registry_that_is_away_for_a_minute_is_waited_for_and_nothing_is_built(stoker: Stoker) -> None:
    """It does not even refuse: whoever asks it hears nothing."""
    process = stoker.lab.state.processes.get("registry")
    assert process is not None
    with stoker.namespace("away") as team:
        process.signal(signal.SIGSTOP)
        gone = time.monotonic()
        try:
            stoker.apply(environment(stoker, "waits", namespace=team, pip=["stoker-tiny==2.0"]))
            stoker.until("environment", "waits", waits_for("RegistryUnreachable"), namespace=team)
            assert time.monotonic() - gone < AWAY / 2, "it is told while it lasts"
            while time.monotonic() - gone < AWAY:
                seen = stoker.get("environment", "waits", team)
                assert waits_for("RegistryUnreachable")(seen), seen["status"]
                assert all("digest" not in one for one in seen["status"].get("images", ()))
                assert [] == builds(stoker, namespace=team)
                time.sleep(1.0)
        finally:
            process.signal(signal.SIGCONT)

        assert "built" == image(stoker, "waits", team)["source"]


def test_a_build_that_nobody_wants_any_more_is_ended(stoker: Stoker, abandoned: tuple[str, socket.socket]) -> None:
    build, building = abandoned

    eventually(lambda: build not in builds(stoker), "the end of the build", stoker)

    building.settimeout(30)
    assert b"" == building.recv(1), "it has not come to its own end, for nobody let it go on"


def test_an_operator_that_is_killed_mid_build_joins_the_build(stoker: Stoker, cpu: str, tmp_path: Path) -> None:
    """The build, of a package's own source, goes on when the test lets it: by then another operator has come."""
    with stoker.namespace("killed") as team, waiting_package(stoker, tmp_path) as (pip, gate):
        command = "python -c 'import waiting; print(waiting.BUILT)'"
        stoker.apply(
            environment(stoker, "slow", namespace=team, pip=pip), job("run", cpu, "slow", command, namespace=team)
        )
        building, _ = gate.accept()
        with closing(building):
            stoker.until("environment", "slow", waits_for("Building"), namespace=team)
            (build,) = builds(stoker, namespace=team)
            uid = stoker.get("job", build, team)["metadata"]["uid"]
            former = _leader(stoker)
            for pod in stoker.items("pods", "app.kubernetes.io/component=operator", namespace="stoker-system"):
                stoker.lab.kubectl(
                    "delete", "pod", pod["metadata"]["name"], "-n", "stoker-system", "--grace-period=0", "--force"
                )
            eventually(lambda: _leader(stoker) not in ("", former), "another operator", stoker)
            assert not over(stoker, build, team)
            building.sendall(b"1")

        found, status = image(stoker, "slow", team), stoker.finished("run", team)

        assert ("built", found["image"]) == (found["source"], status["environment"]["image"])
        assert "Completed" == status["phase"]
        assert [build] == builds(stoker, namespace=team)
        assert uid == stoker.get("job", build, team)["metadata"]["uid"]
        assert 1 == len(stoker.items("pods", f"job-name={build}", team))
        assert 1 == stoker.cli("env", "logs", "slow", "-n", team).stdout.count("\ndone")
        assert "True" in stoker.cli("logs", "run", "-n", team).stdout


def _leader(stoker: Stoker) -> str:
    return str(stoker.get("lease", "stoker-operator", "stoker-system")["spec"].get("holderIdentity") or "")
