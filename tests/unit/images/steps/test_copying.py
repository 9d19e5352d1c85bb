"""COPY without BuildKit: what lands where, with which owner and mode."""

import io
import tarfile
from pathlib import Path

import pytest

from stoker.core.environment.stepwords import BadStep
from stoker.images.layers import File, Folder, Link
from stoker.images.steps.basetree import BaseTree, LinkLoop
from stoker.images.steps.copying import entries
from stoker.images.steps.native import read


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for path, text in {"a.txt": "a", "b.txt": "bb", "src/main.py": "m", "src/deep/x.py": "x", "run.sh": "r"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "src" / "link").symlink_to("main.py")
    return tmp_path


def tree(*members: tuple[str, str, int, int], into: BaseTree | None = None) -> BaseTree:
    """A base of one layer. Members: (path, `dir`, `file` or a link's target, uid, mode)."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for path, kind, uid, mode in members:
            header = tarfile.TarInfo(path)
            header.uid = header.gid = uid
            header.mode = mode
            if kind == "dir":
                header.type = tarfile.DIRTYPE
            elif kind != "file":
                header.type, header.linkname = tarfile.SYMTYPE, kind
            tar.addfile(header)
    memory.seek(0)
    base = into or BaseTree()
    base.read(memory)
    return base


def copied(context: Path, *steps: str, base: BaseTree | None = None) -> dict[str, File | Link | Folder]:
    _, copies = read(steps, {}, "linux/amd64")
    return dict(entries(copies, context, base or BaseTree()))


def files(found: dict[str, File | Link | Folder]) -> set[str]:
    return {path for path, entry in found.items() if isinstance(entry, File)}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("COPY a.txt /x", {"x"}),
        ("COPY a.txt /x/", {"x/a.txt"}),
        ("COPY a.txt b.txt /x/", {"x/a.txt", "x/b.txt"}),
        ("COPY *.txt /x/", {"x/a.txt", "x/b.txt"}),
        ("COPY src /x", {"x/main.py", "x/deep/x.py"}),
        ("COPY src/ /x/", {"x/main.py", "x/deep/x.py"}),
        ("COPY src/*.py /x/", {"x/main.py"}),
        ('COPY ["a.txt", "/with blank/"]', {"with blank/a.txt"}),
        ("COPY . /x/", {"x/a.txt", "x/b.txt", "x/run.sh", "x/src/main.py", "x/src/deep/x.py"}),
        ("COPY /a.txt /x", {"x"}),
    ],
)
def test_where_files_land(context: Path, step: str, expected: set[str]) -> None:
    assert expected == files(copied(context, step))


def test_links_stay_links_and_modes_are_two(context: Path) -> None:
    found = copied(context, "COPY src run.sh /x/")

    assert Link("main.py") == found["x/link"]
    run = found["x/run.sh"]
    assert isinstance(run, File)
    assert (True, (0, 0), None) == (run.executable, run.owner, run.mode)


def test_chown_and_chmod(context: Path) -> None:
    found = copied(context, "COPY --chown=7:8 --chmod=600 a.txt src /x/")
    one = found["x/a.txt"]

    assert isinstance(one, File)
    assert ((7, 8), 0o600) == (one.owner, one.mode)


def test_folders_of_the_base_stay_as_they_are(context: Path) -> None:
    base = tree(("home", "dir", 0, 0o755), ("home/joe", "dir", 1000, 0o700))

    found = copied(context, "COPY a.txt /home/joe/new/a", base=base)

    assert Folder((1000, 1000), 0o700) == found["home/joe"]
    assert Folder() == found["home/joe/new"]


def test_a_file_goes_where_the_bases_link_points(context: Path) -> None:
    base = tree(("usr", "dir", 0, 0o755), ("usr/bin", "dir", 0, 0o755), ("bin", "usr/bin", 0, 0o777))

    found = copied(context, "COPY run.sh /bin/run", base=base)

    assert {"usr/bin/run"} == files(found)
    assert "bin" not in found


def test_a_file_goes_into_a_folder_that_is_there(context: Path) -> None:
    base = tree(("etc", "dir", 0, 0o755))

    assert {"etc/a.txt"} == files(copied(context, "COPY a.txt /etc", base=base))


def test_a_later_layer_covers_an_earlier_one(context: Path) -> None:
    base = tree(("a", "dir", 1, 0o700), ("a/b", "dir", 1, 0o700), ("c", "a", 0, 0o777))
    tree(("a/.wh.b", "file", 0, 0), (".wh.c", "file", 0, 0), into=base)

    assert "c" == base.resolve("/c")
    assert {"a": Folder((1, 1), 0o700)} == base.folders


def test_links_that_lead_nowhere_are_refused(context: Path) -> None:
    base = tree(("a", "b", 0, 0o777), ("b", "a", 0, 0o777))

    with pytest.raises(LinkLoop):
        base.resolve("/a")
    with pytest.raises(BadStep, match="symbolic links"):
        copied(context, "COPY a.txt /a", base=base)


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ("*.txt", {"x/run.sh", "x/src/main.py", "x/src/deep/x.py"}),
        ("*\n!a.txt", {"x/a.txt"}),
        ("src/**/*.py", {"x/a.txt", "x/b.txt", "x/run.sh"}),
        ("# nothing\n\nsrc", {"x/a.txt", "x/b.txt", "x/run.sh"}),
        ("**/x.py", {"x/a.txt", "x/b.txt", "x/run.sh", "x/src/main.py"}),
    ],
)
def test_dockerignore_holds(context: Path, ignored: str, expected: set[str]) -> None:
    (context / ".dockerignore").write_text(ignored + "\n.dockerignore\n")

    assert expected == files(copied(context, "COPY . /x/"))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("COPY nothere /x", "nothere is not in the context"),
        ("COPY *.txt /x", "end the target with a slash"),
        ("COPY *.md /x/", "is not in the context"),
    ],
)
def test_what_cannot_be_copied_is_named(context: Path, step: str, expected: str) -> None:
    with pytest.raises(BadStep) as raised:
        copied(context, step)

    assert str(raised.value).startswith(step)
    assert expected in str(raised.value)


def test_a_folder_cannot_become_a_file(context: Path) -> None:
    with pytest.raises(BadStep, match="both a file and a folder"):
        copied(context, "COPY src /x", "COPY a.txt b.txt /y/", "COPY src/deep /y/a.txt")
