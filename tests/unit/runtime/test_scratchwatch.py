"""A run over its scratch limit is seen in time, also where a walk over its files takes long."""

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime import scratchwatch
from stoker.runtime.scratchwatch import ScratchWatch

LIMIT = 20_000_000


@pytest.fixture
def quiet_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk where nobody else frees what the watch would count: memory, where there is such a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_a_run_that_fills_the_disk_between_two_slow_walks_is_seen(
    quiet_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked, exceeded, found = threading.Event(), threading.Event(), list[int]()
    used_bytes = scratchwatch._used_bytes

    def slowly(root: str) -> int:
        used = used_bytes(root)
        time.sleep(0.5)  # as long as a walk over 100,000 files takes: the next one is 25 s away
        walked.set()
        return used

    monkeypatch.setattr(scratchwatch, "_used_bytes", slowly)
    watch = ScratchWatch(str(quiet_disk), LIMIT, lambda used: (found.append(used), exceeded.set()))
    assert walked.wait(10)
    (quiet_disk / "much").write_bytes(b"x" * (LIMIT + 5_000_000))

    assert exceeded.wait(12)
    assert found[0] > LIMIT
    watch.close()


def test_holes_do_not_count_and_other_peoples_files_do_no_harm(tmp_path: Path) -> None:
    exceeded = threading.Event()
    mine = tmp_path / "mine"
    mine.mkdir()
    with open(mine / "sparse", "wb") as file:
        file.truncate(10 * LIMIT)
    watch = ScratchWatch(str(mine), LIMIT, lambda used: exceeded.set())
    (tmp_path / "theirs").write_bytes(b"x" * (LIMIT + 5_000_000))

    assert not exceeded.wait(4)
    watch.close()
