"""The promise of the product, whole: a folder becomes stored outputs on a node that was not there before and is gone after."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.support.installed import Stoker

pytestmark = pytest.mark.lab


def test_iris_goes_from_zero_nodes_to_saved_outputs_to_zero_nodes(stoker: Stoker, tmp_path: Path) -> None:
    stoker.pool("iris", most=1, idle=5)
    assert stoker.pool_nodes("iris") == []

    record = stoker.run("examples/iris", "--compute", "iris", "--environment", stoker.lab.images["base"])

    assert (record["phase"], record["exitCode"]) == ("Completed", 0), record
    saved = {output["path"]: output for output in record["outputs"]}
    assert "model.pkl" in saved
    assert "accuracy" in record["log"]

    stoker.until_empty("iris")
    name = record["name"]
    stoker.lab.kubectl("delete", "job", "-l", f"stoker.dev/job={name}", "--wait=true")

    logs = stoker.cli("logs", name).stdout
    assert "accuracy" in logs
    stoker.cli("pull", name, str(tmp_path / "pulled"))
    for path, output in saved.items():
        assert output["sha256"] == hashlib.sha256((tmp_path / "pulled" / path).read_bytes()).hexdigest()

    stoker.lab.kubectl("delete", "trainingjob", name)
    assert name in [job["name"] for job in json.loads(stoker.cli("ls", "-o", "json").stdout)]
    assert logs == stoker.cli("logs", name).stdout


def test_the_seal_lists_what_the_store_has(stoker: Stoker, cpu: str) -> None:
    record = stoker.run("examples/hello", "--compute", cpu, "--environment", stoker.lab.images["base"])

    objects = stoker.objects(record["storage"])
    seals = [key for key in objects if key.endswith("seal.json")]
    assert len(seals) == 1
    seal = json.loads(objects[seals[0]])
    assert seal["complete"] is True
    prefix = seals[0].removesuffix("seal.json")
    for file in seal["files"]:
        assert (file["size"], file["sha256"]) == (
            len(objects[prefix + file["path"]]),
            hashlib.sha256(objects[prefix + file["path"]]).hexdigest(),
        )
    assert "logs/std_log.txt" in [file["path"] for file in seal["files"]]
    leftovers = [key for key in objects if "/.segments/" in key]
    assert leftovers == []
