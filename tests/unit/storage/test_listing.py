"""What of a folder is sent, what is not, and why."""

import os
import socket
import sys
from pathlib import Path

import pytest

from stoker.storage.listing import SnapshotError, explain, scan
from stoker.storage.secret_files import RULE
from tests.support.trees import tree

posix = pytest.mark.skipif(sys.platform == "win32", reason="names and links that Windows does not have")


def sent(root: Path, **options: tuple[str, ...]) -> list[str]:
    return [file.path for file in scan(root, **options).files]


def skipped(root: Path, **options: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    return {one.path: (one.rule, one.source) for one in scan(root, **options).skipped}


def test_files_come_sorted_by_the_bytes_of_their_paths(tmp_path: Path) -> None:
    root = tree(tmp_path, {"b/x": "1", "b.py": "22", "a/": "", "a/z": "", "é": "4444", "C": "1"})

    listing = scan(root)

    assert [file.path for file in listing.files] == ["C", "a/z", "b.py", "b/x", "é"]
    assert listing.total_bytes == 8
    assert [file.path for file in listing.largest(2)] == ["é", "b.py"]


def test_gitignore_decides_and_each_left_out_path_names_its_line(tmp_path: Path) -> None:
    root = tree(
        tmp_path, {".gitignore": "# x\n*.log\n/data/\n", "a.log": "", "data/x/y": "", "src/data/z": "", "m.py": ""}
    )

    assert sent(root) == [".gitignore", "m.py", "src/data/z"]
    assert skipped(root) == {"a.log": ("*.log", ".gitignore:2"), "data/": ("/data/", ".gitignore:3")}


def test_amlignore_replaces_gitignore(tmp_path: Path) -> None:
    root = tree(tmp_path, {".gitignore": "*.log", ".amlignore": "*.csv", "a.log": "", "a.csv": ""})

    assert sent(root) == [".amlignore", ".gitignore", "a.log"]
    assert skipped(root) == {"a.csv": ("*.csv", ".amlignore:1")}


def test_ignore_files_below_the_root_are_ordinary_files(tmp_path: Path) -> None:
    root = tree(tmp_path, {"sub/.gitignore": "*", "sub/x": "", "sub/.amlignore": "*"})

    assert sent(root) == ["sub/.amlignore", "sub/.gitignore", "sub/x"]


def test_extra_patterns_come_last_and_win(tmp_path: Path) -> None:
    root = tree(tmp_path, {".gitignore": "*.csv", "a.csv": "", "b.txt": ""})

    assert sent(root, extra_ignore=("!a.csv", "*.txt")) == [".gitignore", "a.csv"]
    assert skipped(root, extra_ignore=("!a.csv", "*.txt")) == {"b.txt": ("*.txt", "--ignore:2")}


def test_git_and_stoker_folders_never_go(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {".gitignore": "!.git\n!.stoker", ".git/config": "", "sub/.git": "gitdir: x", ".stoker/jobs/a": "", "x": ""},
    )

    assert sent(root) == [".gitignore", "x"]
    assert {".git/", ".stoker/", "sub/.git"} == set(skipped(root))


@pytest.mark.parametrize(
    "name",
    [
        "id_rsa", "sub/id_ed25519", "server.pem", "tls.KEY", ".env", ".env.production", "prod.env", ".netrc", "kubeconfig",
        "credentials", "gcp/credentials.json", "service-account-1.json", ".docker/config.json", ".aws/config", ".ssh/known_hosts",
        ".pypirc", ".git-credentials", "client_secret_1.json", "x.p12", "kaggle.json",
    ],
)  # fmt: skip
def test_files_that_look_like_keys_never_go_unless_asked_for(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, {name: "secret", "train.py": ""})

    assert sent(root) == ["train.py"]
    assert {RULE} == {rule for rule, _ in skipped(root).values()}
    top = name.split("/")[0] + ("/" if "/" in name else "")
    assert sorted([name, "train.py"]) == sorted(sent(root, allow_secrets=(name, top)))


@pytest.mark.parametrize(
    "name", [".env.example", "id_rsa.pub", "environment.yml", "key.py", "credentials.py", "monkey", "config.json"]
)
def test_files_that_only_sound_like_keys_go(tmp_path: Path, name: str) -> None:
    assert [name] == sent(tree(tmp_path, {name: ""}))


def test_an_ignore_file_cannot_bring_a_key_back(tmp_path: Path) -> None:
    root = tree(tmp_path, {".gitignore": "!.env", ".env": "x"})

    assert sent(root) == [".gitignore"]


@pytest.mark.parametrize("name", [".venv", "mlruns", "wandb"])
def test_folders_that_are_there_by_accident_are_warned_of(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, {f"{name}/x": ""})

    (warning,) = scan(root).warnings
    assert f"{name}/" in warning
    assert ".gitignore" in warning
    assert scan(root, extra_ignore=(name,)).warnings == ()


@posix
def test_links_inside_the_tree_are_kept_as_links(tmp_path: Path) -> None:
    root = tree(tmp_path, {"data/x": "xx", "sub/": ""})
    (root / "sub" / "to-file").symlink_to("../data/x")
    (root / "to-folder").symlink_to("data")
    (root / "to-nothing").symlink_to("data/gone")

    targets = {file.path: file.target for file in scan(root).files}

    assert targets == {"data/x": "", "sub/to-file": "../data/x", "to-folder": "data", "to-nothing": "data/gone"}


@posix
@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "a/../../secret", "inner/../../secret"])
def test_a_link_out_of_the_tree_is_refused_with_its_name(tmp_path: Path, target: str) -> None:
    root = tree(tmp_path / "root", {"a/deep/x": ""})
    tree(tmp_path, {"secret": "s"})
    (root / "a" / "up").symlink_to("..")
    (root / "inner").symlink_to("a")
    (root / "link").symlink_to(target)

    with pytest.raises(SnapshotError, match=r"link -> .*the (link leaves the tree|link's target is not)"):
        scan(root)


@posix
def test_a_link_that_leaves_the_tree_through_another_link_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"shallow/x": "", "a/b/": ""})
    (root / "a" / "b" / "jump").symlink_to("../../shallow")
    (root / "link").symlink_to("a/b/jump/../../secret")  # by its text this is a/secret

    with pytest.raises(SnapshotError, match=r"link -> a/b/jump/\.\./\.\./secret: the link leaves the tree"):
        scan(root)


@posix
def test_an_ignored_link_may_point_anywhere(tmp_path: Path) -> None:
    root = tree(tmp_path, {".gitignore": "link", "x": ""})
    (root / "link").symlink_to("/etc/passwd")

    assert sent(root) == [".gitignore", "x"]


@posix
def test_special_files_are_left_out_and_named(tmp_path: Path) -> None:
    root = tree(tmp_path, {"x": ""})
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root)  # a socket's path may have only 107 bytes
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)

        assert sent(root) == ["x"]
        assert {"pipe", "sock"} == set(skipped(root))
        assert "FIFO" in skipped(root)["pipe"][0]


@posix
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.py", "A.py"), "differ only by case"),
        (("é.py", "e\u0301.py"), "differ only in how Unicode spells them"),
        (("ÉCOLE.py", "e\u0301cole.py"), "differ only by case"),
        (("data", "Data/x"), "differ only by case"),
        (("straße", "STRASSE"), "differ only by case"),
    ],
)
def test_names_that_clash_elsewhere_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    root = tree(tmp_path, dict.fromkeys(names, ""))
    if len(list(root.iterdir())) < 2:
        pytest.fail("this file system takes the two names for one: run the tests on another")

    with pytest.raises(SnapshotError, match=message):
        scan(root)


@posix
def test_folders_that_differ_by_case_but_share_no_file_are_fine(tmp_path: Path) -> None:
    assert sent(tree(tmp_path, {"A/x": "", "a/y": ""})) == ["A/x", "a/y"]


@posix
@pytest.mark.parametrize("name", [b"new\nline", b"back\\slash", b"not-utf8-\xff", b"bell\x07"])
def test_names_that_no_other_system_takes_are_refused_unless_ignored(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("x")

    with pytest.raises(SnapshotError, match="rename it or ignore it"):
        scan(tmp_path)
    assert sent(tmp_path, extra_ignore=("*",)) == []


@posix
def test_names_are_stored_in_unicode_form_nfc(tmp_path: Path) -> None:
    (file,) = scan(tree(tmp_path, {"e\u0301.py": "x"})).files

    assert (file.path, file.on_disk) == ("é.py", "e\u0301.py")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="nowhere: not a folder"):
        scan(tmp_path / "nowhere")


@posix
def test_the_exec_bit_is_the_owners(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": "", "b": ""})
    (root / "a").chmod(0o744)
    (root / "b").chmod(0o655)

    assert {file.path: file.executable for file in scan(root).files} == {"a": True, "b": False}


@pytest.mark.parametrize(
    ("path", "line", "source"),
    [
        ("a/x.log", "*.log", ".gitignore:1"),
        ("keep.log", "!keep.log", ".gitignore:2"),
        ("data/deep/file", "data/", ".gitignore:3"),
        ("data/", "data/", ".gitignore:3"),
        (".env", RULE, "built in: .env"),
        ("sub/.git/config", ".git/", "built in"),
        ("not/there.py", None, None),
        (".", None, None),
    ],
)
def test_explain_says_which_line_decides(tmp_path: Path, path: str, line: str | None, source: str | None) -> None:
    root = tree(tmp_path, {".gitignore": "*.log\n!keep.log\ndata/\n"})

    decision = explain(root, path)

    assert (line, source) == (decision.line, decision.source)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_explain_refuses_what_is_not_in_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(SnapshotError, match="not below"):
        explain(tmp_path, path)


def test_explain_agrees_with_the_scan(tmp_path: Path) -> None:
    files = [".gitignore", "a.log", "keep.log", "data/x", "data/keep", ".env", "src/.env.local", "src/a.py", "build"]
    root = tree(tmp_path, {**dict.fromkeys(files, ""), ".gitignore": "*.log\n!keep.log\ndata/*\n!data/keep\nbuild/\n"})

    assert sent(root) == sorted(path for path in files if not explain(root, path).ignored)


def test_a_folder_of_data_goes_whole(tmp_path: Path) -> None:
    root = tree(tmp_path, {".gitignore": "*", "a.csv": "1", ".venv/x": "", "labels.key": "y", ".git/config": ""})

    listing = scan(root, everything=True)

    assert [file.path for file in listing.files] == [".gitignore", ".venv/x", "a.csv", "labels.key"]
    assert [file.path for file in scan(root, everything=True, extra_ignore=("*", "!a.csv")).files] == ["a.csv"]
