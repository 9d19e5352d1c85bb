"""MLflow's own client against the tracking server that stands beside every run."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime.layout import Scratch
from stoker.runtime.tracking.pieces import read
from stoker.runtime.tracking.serve import Tracking


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    made = Scratch(str(tmp_path / "scratch"))
    made.make()
    return made


@pytest.fixture
def tracking(scratch: Scratch) -> Iterator[Tracking]:
    served = Tracking(scratch, 0, print)
    yield served
    served.close()


def test_no_point_that_was_answered_is_lost_when_training_is_killed(tracking: Tracking, scratch: Scratch) -> None:
    script = (
        "import mlflow, os, signal\n"
        "client = mlflow.MlflowClient()\n"
        "run = client.create_run('0').info.run_id\n"
        "for step in range(300):\n    client.log_metric(run, 'loss', step, step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {"MLFLOW_TRACKING_URI": tracking.url, "PATH": os.environ["PATH"], "HOME": scratch.home}

    done = subprocess.run([sys.executable, "-c", script], env=env, check=False)

    assert -signal.SIGKILL == done.returncode
    assert list(range(300)) == [line["s"] for line in read(scratch) if line["t"] == "metric"]


def test_the_server_is_there_for_this_machine_alone_and_answers_nonsense_in_mlflows_words(tracking: Tracking) -> None:
    assert tracking.url.startswith("http://127.0.0.1:")
    for path, content in (("/api/2.0/mlflow/runs/create", b"no json"), ("/elsewhere", b"{}")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(tracking.url + path, content), timeout=10)
        assert {"error_code", "message"} == json.loads(refused.value.read()).keys()
