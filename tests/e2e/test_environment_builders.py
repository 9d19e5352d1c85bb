"""Who builds: BuildKit at an address, BuildKit of the chart's own, and what a builder that has too little of something says."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab import packages
from tests.support import buildkits
from tests.support.installed import Stoker
from tests.support.lab_environments import (
    builds,
    environment,
    eventually,
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


# -- a builder with little, and BuildKits of the chart's own


@pytest.fixture(scope="module")
def little(stoker: Stoker) -> Iterator[ExitStack]:
    """The chart with builders that have little memory, disk and time, and with BuildKits that soon fall asleep. Closed:
    as it was."""
    limits = {"memory": "400Mi", "ephemeral-storage": "96Mi"}
    daemons = {
        # The lab's containerd has no user namespaces for pods.
        "isolation": "Privileged", "enabled": True, "image": buildkits.image(stoker.lab), "idleSeconds": 3,
        "storage": {"size": "1Gi"}, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
    }  # fmt: skip
    builder = {"timeoutSeconds": 60, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": limits}}
    with ExitStack() as stack:
        stack.enter_context(stoker.settings({"buildkit": daemons, "builder": builder}))
        yield stack


def test_a_namespace_s_own_buildkit_wakes_for_a_build_and_goes_to_sleep(stoker: Stoker, little: ExitStack) -> None:
    with stoker.namespace("own-buildkit") as team:

        def there(kind: str) -> list[dict[str, Any]]:
            return stoker.items(kind, f"stoker.dev/buildkit-for={team}", "stoker-privileged")

        assert [] == there("statefulsets")
        stoker.apply(environment(stoker, "stepped", namespace=team, dockerSteps=[STEP], pip=["stoker-tiny==1.0"]))

        eventually(lambda: [1] == [one["spec"]["replicas"] for one in there("statefulsets")], "BuildKit awake", stoker)
        assert "built" == image(stoker, "stepped", team)["source"]

        eventually(lambda: [0] == [one["spec"]["replicas"] for one in there("statefulsets")], "BuildKit asleep", stoker)
        eventually(lambda: not there("pods"), "the end of its pod", stoker)
        assert 1 == len(there("persistentvolumeclaims")), "its cache outlives its sleep"
    eventually(
        lambda: not there("statefulsets") and not there("persistentvolumeclaims"), "the end of all of it", stoker
    )


def test_a_builder_with_too_little_says_of_what_and_what_to_raise(
    stoker: Stoker, little: ExitStack, tmp_path: Path
) -> None:
    """At the same time: each is a package whose own build takes too much of one thing."""
    (tmp_path / "files").mkdir()
    greed = {
        "memory": "len(b'x' * (600 << 20))",
        "disk": "file = open('big', 'wb'); [file.write(bytes(1 << 20)) for _ in range(200)]; file.flush(); "
        "import signal; signal.pause()",
        "time": "import signal; signal.pause()",
    }
    for what, first in greed.items():
        packages.make_source(tmp_path / "files", f"much-{what}", "1.0", first=first)
    packages.write_index(tmp_path)
    with packages.serving(tmp_path, stoker.lab.bridge_address) as served, stoker.namespace("greedy") as team:
        stoker.apply(
            *(
                environment(stoker, what, namespace=team, pip=[f"--index-url {served.pypi}", f"much-{what}==1.0"])
                for what in greed
            )
        )

        for what, expected, fix in (
            ("memory", "OutOfMemory", "raise builder.resources.limits.memory in the chart's values"),
            ("disk", "DiskFull", "raise ephemeral-storage in builder.resources of the chart's values"),
            ("time", "Timeout", "raise builder.timeoutSeconds in the chart's values"),
        ):
            reason, message = told(stoker, what, team)
            assert expected == reason, message
            assert fix in message
        # What more of the same does not mend is not tried again.
        assert 3 == len(builds(stoker, namespace=team))
        stoker.lab.kubectl("delete", "environment", "disk", "time", "-n", team)

        little.close()

        assert "built" == image(stoker, "memory", team)["source"], "it has the memory, and nobody had to say so"
