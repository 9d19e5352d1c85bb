"""What a command tracks on a cluster is in its status, in its record and in the store."""

import json

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

#: MLflow's wire, without its package: the client itself is tried against the same server in the component tests.
SCRIPT = """
import json, os, urllib.request

def call(path, **body):
    url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path
    return json.load(urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())))

run = call("runs/create", experiment_id="0")["run"]["info"]["run_id"]
for step in range(200):
    call("runs/log-metric", run_id=run, key="loss", value=1 / (step + 1), step=step)
"""


def test_metrics_of_a_run_outlive_it(stoker: Stoker, cpu: str) -> None:
    stoker.apply(
        training_job("tracks", "python3 t.py", image=stoker.lab.images["base"], compute=cpu, files={"t.py": SCRIPT})
    )

    status = stoker.finished("tracks")

    assert ("Completed", {"loss": 0.005}) == (status["phase"], status["metrics"]), status
    told = json.loads(stoker.cli("show", "tracks", "--metrics", "-o", "json").stdout)["metrics"]
    assert [("loss", 200, 0.005, 1.0)] == [(one["name"], one["count"], one["min"], one["max"]) for one in told]
