"""A folder is emptied, whatever lies in it, nothing outside is touched, and what is left is told."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.runtime import scrub

NAMES = st.sampled_from(["a", "b", ".hidden", ".scrub-1", ".scrub-2", "with blank", "ü"])
TREES = st.recursive(
    st.sampled_from(["file", "link", "fifo"]), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=20
)


def grow(folder: Path, tree: object, outside: Path) -> int:
    """Make it; how many files and folders that are."""
    if tree == "file":
        folder.write_text("secret")
    elif tree == "link":
        folder.symlink_to(outside)
    elif tree == "fifo":
        os.mkfifo(folder)
    else:
        assert isinstance(tree, dict)
        folder.mkdir()
        return 1 + sum(grow(folder / name, inner, outside) for name, inner in tree.items())
    return 1


@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_whatever_lies_there_goes_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "kept").write_text("kept")
    folder = tmp_path_factory.mktemp("scratch")
    count = sum(grow(folder / name, inner, outside) for name, inner in tree.items())

    assert scrub.empty(str(folder)) == (count, [])
    assert scrub.proof(str(folder)) == []
    assert (outside / "kept").read_text() == "kept"
    assert folder.is_dir()


def test_a_tree_may_be_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    depth, at = 3000, os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)

    assert scrub.empty(str(folder)) == (depth, [])
    assert list(folder.iterdir()) == []


def test_a_folder_that_nobody_may_enter_goes_too(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    (folder / "shut").mkdir(parents=True)
    (folder / "shut").chmod(stat.S_IRWXU)
    (folder / "file").write_text("x")
    (folder / "file").chmod(0)

    assert scrub.main(["--path", str(folder), "--last-words", str(tmp_path / "said")]) == 0
    assert (tmp_path / "said").read_text() == f"{folder} is empty: 2 files and folders were removed"


def test_what_is_left_is_named_with_what_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, unlink = tmp_path / "scratch", os.unlink
    folder.mkdir()
    for name in ("goes", "stays"):
        (folder / name).write_text("x")

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "stays":
            raise PermissionError(1, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)

    arguments = ["--path", str(folder), "--called", "/mnt/fast", "--last-words", str(tmp_path / "said")]
    assert scrub.main(arguments) == 1
    said = "1 entries are left in /mnt/fast, such as 'stays'; 'stays': Operation not permitted"
    assert (tmp_path / "said").read_text() == said == capsys.readouterr().err.strip()
    assert not (folder / "goes").exists()


def test_a_folder_that_is_not_there_is_not_empty(tmp_path: Path) -> None:
    said = tmp_path / "said"

    assert scrub.main(["--path", str(tmp_path / "gone"), "--called", "/mnt/fast", "--last-words", str(said)]) == 1
    assert said.read_text() == "/mnt/fast cannot be looked into: No such file or directory"
