"""Ranks of one job find each other by name and end as one."""

import json
from pathlib import Path

import pytest

from tests.support.installed import Stoker

pytestmark = pytest.mark.lab


def test_two_ranks_on_two_nodes_talk_to_each_other(stoker: Stoker, tmp_path: Path) -> None:
    """A gang has its nodes together, from a pool that had none, and nobody else's jobs in its way."""
    stoker.pool("pair", most=2, idle=5)

    record = stoker.run("examples/two-nodes", "--compute", "pair", "--environment", stoker.lab.images["base"])

    assert (record["phase"], record["exitCode"]) == ("Completed", 0), record
    status = stoker.get("trainingjob", record["name"])["status"]
    assert len(set(status["attempts"][0]["nodes"])) == 2
    assert stoker.ever_booted("pair") == 2
    stoker.cli("pull", record["name"], str(tmp_path))
    assert json.loads((tmp_path / "ranks.json").read_text())["ranks"] == 2
    stoker.until_empty("pair")
