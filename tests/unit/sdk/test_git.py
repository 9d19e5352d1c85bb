"""What Git knows of a code folder, asked of a real repository."""

import subprocess
from pathlib import Path

import pytest

from stoker.core import gitstate
from stoker.core.gitstate import MOST_DIFF, GitState
from stoker.sdk import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print(1)\n")
    (tmp_path / "other.txt").write_text("x\n")
    for words in (
        ["init", "-q"], ["add", "-A"],
        ["-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "-q", "-m", "first"],
    ):  # fmt: skip
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    return tmp_path


def head(repository: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_clean_folder_has_its_commit(repository: Path) -> None:
    assert GitState(head(repository)) == git.state_of(repository / "code", ["train.py"])


def test_a_change_of_what_is_sent_is_told(repository: Path) -> None:
    (repository / "code" / "train.py").write_text("print(2)\n")

    found = git.state_of(repository / "code", ["train.py"])

    assert found is not None
    assert found.dirty
    assert {"-print(1)", "+print(2)"} <= set(found.diff.splitlines())


def test_a_change_of_what_is_not_sent_is_nobody_s(repository: Path) -> None:
    (repository / "other.txt").write_text("y\n")
    (repository / "code" / "notes.txt").write_text("secret\n")

    assert GitState(head(repository)) == git.state_of(repository / "code", ["train.py"])


def test_a_file_that_git_does_not_know_is_named_and_not_shown(repository: Path) -> None:
    (repository / "code" / "new.py").write_text("print('new')\n")

    found = git.state_of(repository / "code", ["new.py", "train.py"])

    assert GitState(head(repository), True, "not in the commit: new.py\n") == found


def test_a_difference_is_bounded(repository: Path) -> None:
    (repository / "code" / "train.py").write_text("x = 1\n" * 20_000)

    found = git.state_of(repository / "code", ["train.py"])

    assert found is not None
    assert len(found.diff) == MOST_DIFF


def test_a_folder_without_a_repository_has_none(tmp_path: Path) -> None:
    assert git.state_of(tmp_path, []) is None


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)

    assert git.state_of(tmp_path, []) is None


@pytest.mark.parametrize("state", [GitState("a" * 40), GitState("b" * 64, True), GitState("c" * 40, True, "d\n")])
def test_what_an_annotation_carries_comes_back(state: GitState) -> None:
    assert state == gitstate.told(state.annotations())


@pytest.mark.parametrize("text", ["", "main", "a" * 39, "A" * 40, "a" * 40 + "-dirt", "a" * 40 + "\n"])
def test_what_is_no_commit_is_not_believed(text: str) -> None:
    assert gitstate.told({"stoker.dev/commit": text}) is None
