"""The pages' own commands, run as a reader would: every ```sh block, in order, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.pages import ROOT, blocks, pages

_RUN = [page for page in pages() if any(block.language == "sh" for block in blocks(page))]


@pytest.mark.parametrize("page", _RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_do_what_they_say(page: Path, tmp_path: Path) -> None:
    """On a laptop: no cluster, no kubeconfig, nothing in any cache."""
    folder = tmp_path / "reader"
    folder.mkdir()
    env = Cli(folder, tmp_path / "cache").environment()
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    script = "\n".join(block.text for block in blocks(page) if block.language == "sh")

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=env, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip

    assert 0 == done.returncode, f"{page.relative_to(ROOT)}\n{done.stdout}"
