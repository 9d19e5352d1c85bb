"""A program with the SDK in front of a real cluster: submitted, followed, fetched, cancelled, archived."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installed import Stoker

pytestmark = pytest.mark.lab

PROGRAM = """
import json, pathlib, sys
from stoker import Client, Environment, Output, command

image = sys.argv[1]
pathlib.Path("src").mkdir()
pathlib.Path("src/train.py").write_text("import sys; print('lr', sys.argv[1], flush=True); open('outputs/m.txt', 'w').write('m')")
client = Client()
made = client.environments.create_or_update(Environment(name="sdk", version="1", image=image))
job = command(
    code="src", command="python3 train.py ${{inputs.lr}}; echo named > ${{outputs.model}}/n.txt", inputs={"lr": 0.1},
    outputs={"model": Output(type="uri_folder")}, environment=made, compute="local", tags={"from": "sdk"},
)
job.compute = "cpu"
run = client.jobs.create_or_update(job)
client.jobs.stream(run)
client.jobs.download(run, download_path="got", all=True)
client.jobs.archive(run)

slow = client.jobs.create_or_update(command(command="sleep 600", environment=f"azureml:{made.name}:{made.version}", compute="cpu"))
client.jobs.cancel(slow)
client.jobs.stream(slow)

ended = client.jobs.get(run)
files = sorted(path.relative_to("got").as_posix() for path in pathlib.Path("got").rglob("*") if path.is_file())
told = {
    "status": ended.status, "exit": ended.exit_code, "tags": ended.tags, "archived": ended.archived, "files": files,
    "slow": client.jobs.get(slow).status, "listed": [one.name for one in client.jobs.list()], "run": run.name, "slow_name": slow.name,
    "pools": [one.name for one in client.compute.list()],
}
pathlib.Path("told.json").write_text(json.dumps(told))
"""


def test_a_program_submits_follows_fetches_and_cancels(stoker: Stoker, cpu: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"KUBECONFIG": str(stoker.lab.kubeconfig), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, stoker.lab.images["base"]],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip

    assert 0 == done.returncode, f"{done.stdout}\n{done.stderr}\n{stoker.state()}"
    assert "lr 0.1" in done.stdout.splitlines()
    told = json.loads((tmp_path / "told.json").read_text())
    assert ("Completed", 0, {"from": "sdk"}, True) == (told["status"], told["exit"], told["tags"], told["archived"])
    assert ["artifacts/logs/std_log.txt", "artifacts/outputs/m.txt", "named-outputs/model/n.txt"] == told["files"]
    assert "Canceled" == told["slow"]
    assert told["slow_name"] in told["listed"]
    assert told["run"] not in told["listed"]
    assert cpu in told["pools"]
