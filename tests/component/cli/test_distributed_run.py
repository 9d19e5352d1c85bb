"""Distributed commands on this machine, through the real command line."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.cli import Cli

TELL = (
    "import os\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'], os.environ['AZUREML_PROCESS_NAME'])\n"
)


def write(cli: Cli, script: str, distribution: str) -> None:
    (cli.folder / "src").mkdir()
    (cli.folder / "src" / "train.py").write_text(script)
    cli.write(
        job__yaml=f"command: python train.py\ncode: src\ndistribution: {{{distribution}}}\nresources: {{instance_count: 2}}\n"
    )


def test_two_nodes_of_two_processes_are_four_ranks(cli: Cli) -> None:
    write(cli, TELL, "type: pytorch, process_count_per_instance: 2")

    record = cli.json("run", "job.yaml", "--compute", "local")

    assert record["phase"] == "Completed"
    attempt = Path(urlsplit(record["storage"]).path, "attempts", "1")
    for rank in range(4):
        saved = attempt / str(rank // 2) / "logs" / "user_logs" / f"std_log_process_{rank}.txt"
        assert saved.read_text() == f"rank {rank} of 4 rank_{rank}\n"
    job = json.loads((attempt.parents[1] / "job.json").read_text())
    assert job["distribution"] == {"type": "pytorch", "processCountPerInstance": 2}


def test_the_rank_that_failed_first_is_told(cli: Cli) -> None:
    script = (
        "import os, sys, time\nprint('I am', os.environ['RANK'], flush=True)\n"
        "if os.environ['RANK'] == '3':\n    sys.exit(7)\ntime.sleep(60)\n"
    )
    write(cli, script, "type: pytorch, process_count_per_instance: 2")

    done = cli("run", "job.yaml", "--compute", "local", "-o", "json", code=7)

    record = json.loads(done.stdout)
    assert (record["phase"], record["exitCode"]) == ("Failed", 7)
    assert record["message"] == "process 3 ended with exit code 7\nI am 3"


def test_each_worker_of_tensorflow_has_a_place_of_its_own(cli: Cli) -> None:
    script = "import json, os\nprint(json.loads(os.environ['TF_CONFIG'])['task'], flush=True)\n"
    write(cli, script, "type: tensorflow")

    done = cli("run", "job.yaml", "--compute", "local", "-q")

    assert {"[r0] {'type': 'worker', 'index': 0}", "[r1] {'type': 'worker', 'index': 1}"} <= set(
        done.stdout.splitlines()
    )
