"""The page about the SDK: its blocks, one after another as a reader would run them."""

from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks
from tests.support.played_cluster import PlayedCluster

PAGE = ROOT / "docs" / "how-to" / "python-sdk.md"


def test_the_blocks_of_the_page_do_what_they_say(
    project: Path, played: PlayedCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    with played.finishing_jobs(), pytest.warns(UserWarning, match="the kubeconfig says"):
        _read()

    out = capfd.readouterr().out
    for line in ("trained with 0.1", "trained with 0.2", "trained with 0.3", "Completed", "epoch 2", "1,2", "['cpu', 'small']",
                 "Command.comput did you mean compute?"):  # fmt: skip
        assert line in out


def _read() -> None:
    names: dict[str, object] = {}
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
