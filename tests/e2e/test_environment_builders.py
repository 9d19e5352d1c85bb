"""Docker steps through BuildKit at an address of one's own."""

import json

import pytest

from tests.support.installed import Stoker
from tests.support.lab_environments import (
    builds,
    environment,
    image,
    job,
    told,
    workspace,
)

pytestmark = pytest.mark.lab
#: Leaves another file whenever it is run.
STEP = "RUN head -c 16 /dev/urandom | od -An -tx1 > /made-by-a-step"


@pytest.fixture(scope="module", autouse=True)
def index(stoker: Stoker) -> None:
    stoker.lab.packages(lambda line: None)


def test_steps_need_a_buildkit_are_run_once_and_packages_lie_on_top(stoker: Stoker, cpu: str) -> None:
    with stoker.namespace("steps") as team:
        stoker.apply(environment(stoker, "stepped", namespace=team, dockerSteps=[STEP], pip=["stoker-tiny==1.0"]))

        reason, message = told(stoker, "stepped", team)
        assert "NoBuilderAvailable" == reason
        assert (
            "set spec.buildkit.address of Workspace/default to one, or install the chart with buildkit.enabled"
            in message
        )
        assert [] == builds(stoker, namespace=team)

        stoker.apply(workspace(team, buildkit={"address": stoker.lab.buildkit}))
        first = image(stoker, "stepped", team)
        assert "built" == first["source"]
        assert f"] {STEP}" in stoker.cli("env", "logs", "stepped", "-n", team).stdout

        # Where nothing listens: another package must not even ask for it.
        stoker.apply(
            workspace(team, buildkit={"address": f"tcp://{stoker.lab.bridge_address}:9"}),
            environment(stoker, "stepped", namespace=team, dockerSteps=[STEP], pip=["stoker-tiny==2.0"]),
        )
        second = image(stoker, "stepped", team)
        assert first["digest"] != second["digest"]
        log = stoker.cli("env", "logs", "stepped", "-n", team).stdout
        assert "1 steps were done before" in log
        assert STEP not in log
        base = len(_layers(stoker, stoker.lab.images["base"]))
        of_the_step = [_layers(stoker, one["image"])[base] for one in (first, second)]
        assert of_the_step[0] == of_the_step[1], "the layer of the step, which no two runs of it would make"

        stoker.apply(job("stepped-1", cpu, "stepped", "cat /made-by-a-step && python main.py", namespace=team))
        assert "Completed" == stoker.finished("stepped-1", team)["phase"]
        made, said = stoker.cli("logs", "stepped-1", "-n", team).stdout.strip().splitlines()[-2:]
        assert 16 == len(bytes.fromhex(made))
        assert "tiny 2.0 /opt/stoker/env" == said


def _layers(stoker: Stoker, image: str) -> list[str]:
    return [layer["digest"] for layer in json.loads(stoker.manifest(image))["layers"]]
