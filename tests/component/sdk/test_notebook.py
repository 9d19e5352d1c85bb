"""The plain client in a notebook, whose cells run inside an event loop of the kernel's."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = (
    # What a person writes, cell by cell.
    "import asyncio\nasyncio.get_running_loop()\nfrom stoker import Client, command\nclient = Client()",
    'job = command(code="src", command="python train.py", environment="python:3.12", compute="local")\njob',
    "run = client.jobs.create_or_update(job)\nrun",
    "client.jobs.stream(run)",
    "client.jobs.get(run)",
    'long = client.jobs.create_or_update(job(), compute="local")\n'
    'slow = command(command="python -c \'import time; time.sleep(600)\'", environment="python:3.12", compute="local")\n'
    "slow_run = client.jobs.create_or_update(slow)\nclient.jobs.cancel(slow_run)\nclient.jobs.stream(slow_run)",
    "client.jobs.get(slow_run).status",
)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of this very Python, found in a folder of the test's."""
    folder = tmp_path / "jupyter" / "kernels" / "here"
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "here", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return "here"


def test_a_notebook_submits_streams_and_cancels(project: Path, kernel: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])

    NotebookClient(notebook, timeout=120, kernel_name=kernel, resources={"metadata": {"path": str(project)}}).execute()

    def said(cell: int, kind: str) -> str:
        found = [
            one["data"].get(kind, "") if "data" in one else one["text"]
            for one in notebook.cells[cell].outputs
            if ("data" in one and kind in one["data"]) or (one.output_type == "stream" and one["name"] == kind)
        ]
        return "".join(found)

    assert "<caption>Command</caption>" in said(1, "text/html")
    assert "Running" in said(2, "text/html")
    assert "lr 0.1" in said(3, "stdout").splitlines()
    assert "Completed" in said(4, "text/html")
    assert "'Canceled'" == said(6, "text/plain")
