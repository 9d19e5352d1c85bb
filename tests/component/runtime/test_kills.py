"""SIGKILL at a random point, of each part of a pod: not one line whose write() returned is lost."""

from pathlib import Path

import pytest

from tests.component.runtime.rounds import KINDS, kill_round

LINES = 50_000


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_loses_no_line_and_no_file(tmp_path: Path, kind: str, seed: int) -> None:
    done = kill_round(tmp_path / "pod", kind, seed, LINES)

    assert done.stored >= done.written >= done.killed_at
