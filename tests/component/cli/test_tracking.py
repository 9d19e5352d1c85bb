"""A script that tracks with mlflow's own client, in a local run."""

import os
import sys
from pathlib import Path

from tests.support.cli import Cli

SCRIPT = """
import mlflow, sys
mlflow.set_experiment("flowers")
with mlflow.start_run(run_name="first"):
    mlflow.log_params({"lr": 0.1, "depth": 3})
    mlflow.set_tag("team", "vision")
    for step in range(50):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"accuracy": 0.9, "odd": float("nan")}, step=50)
    with open("report.txt", "w") as file:
        file.write("good")
    mlflow.log_artifact("report.txt")
    run = mlflow.active_run()
    with mlflow.start_run(nested=True):
        mlflow.log_metric("inner", 1)
client = mlflow.MlflowClient()
assert 50 == len(client.get_metric_history(run.info.run_id, "loss"))
found = client.get_run(run.info.run_id)
assert "FINISHED" == found.info.status and "0.1" == found.data.params["lr"]
assert 2 == len(client.search_runs(["0"]))
assert "flowers" == mlflow.get_experiment_by_name("flowers").name
"""


def test_a_script_tracks_with_nothing_set_and_the_run_has_it_all(cli: Cli) -> None:
    cli.write(train__py=SCRIPT)
    cli.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    cli("run", "train.py", "--name", "tracked")

    assert {"accuracy": 0.9, "loss": 0.02} == cli.json("show", "tracked")["metrics"]
    told = {one["name"]: one for one in cli.json("show", "tracked", "--metrics")["metrics"]}
    assert {"accuracy", "loss", "odd"} == told.keys()
    assert (50, 0.02, 1.0, 0.02) == tuple(told["loss"][key] for key in ("count", "min", "max", "last"))
    assert list(range(50)) == [one["step"] for one in told["loss"]["points"]]
    cli("pull", "tracked", "got")
    assert "good" == (cli.folder / "got" / "report.txt").read_text()


def test_another_tracking_server_is_left_alone(cli: Cli) -> None:
    cli.write(train__py="import os\nprint(os.environ['MLFLOW_TRACKING_URI'])\n")

    done = cli("run", "train.py", "-e", "MLFLOW_TRACKING_URI=https://mlflow.example.com")

    assert "https://mlflow.example.com" in done.stdout.splitlines()
