"""Looking at and opening files that a training script made, may swap, or may make unreadable."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stoker.runtime import beneath, upload, wire
from stoker.runtime.beneath import LeavesFolder, open_beneath
from stoker.runtime.folder import FolderTransport, folder_of_url
from stoker.runtime.journal import Journal, Saved, Upload
from stoker.runtime.layout import Scratch, read_json, write_json
from stoker.runtime.scan import scan
from stoker.runtime.transport import Absent
from stoker.runtime.upload import Uploader
from stoker.runtime.web import Refused, Transient

EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(params=["descriptors", "paths"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside a secret; opened with directory descriptors, and as on systems that have none."""
    monkeypatch.setattr(beneath, "_HAS_DIR_FD", request.param == "descriptors")
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "root"
    (inside / "d").mkdir(parents=True)
    (inside / "d/f").write_text("inside")
    return inside


def read(root: Path, path: str, follow: bool = False) -> str:
    with os.fdopen(open_beneath(str(root), path, follow)) as file:
        return file.read()


def test_a_plain_file_is_opened(root: Path) -> None:
    assert read(root, "d/f") == "inside"


@pytest.mark.parametrize("path", ["../secret", "d/../../secret"])
def test_dots_do_not_lead_out(root: Path, path: str) -> None:
    with pytest.raises(OSError, match=r"leads out|Errno"):
        read(root, path)


@pytest.mark.parametrize("target", ["../secret", "{0}/../secret", "/etc/hostname", "d/../../secret"])
def test_links_do_not_lead_out(root: Path, target: str) -> None:
    (root / "link").symlink_to(target.format(root))

    with pytest.raises(LeavesFolder):
        read(root, "link", follow=True)


def test_a_folder_swapped_for_a_link_is_not_followed(root: Path) -> None:
    (root / "swapped").symlink_to(root.parent)

    with pytest.raises(OSError, match=r".+"):
        read(root, "swapped/secret")


def test_links_inside_are_followed_when_asked(root: Path) -> None:
    (root / "d/relative").symlink_to("../d/f")
    (root / "absolute").symlink_to(root / "d/f")
    (root / "folder").symlink_to("d")

    assert [read(root, path, follow=True) for path in ("d/relative", "absolute", "folder/f")] == ["inside"] * 3
    with pytest.raises(OSError, match=r".+"):
        read(root, "absolute")


def test_a_link_in_a_circle_is_an_error(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")

    with pytest.raises(OSError, match=r".+"):
        read(root, "a", follow=True)


def test_a_fifo_does_not_block(root: Path) -> None:
    os.mkfifo(root / "pipe")

    os.close(open_beneath(str(root), "pipe"))


def test_descriptors_are_given_back(root: Path) -> None:
    (root / "link").symlink_to("../secret")
    before = len(os.listdir("/dev/fd"))

    for _ in range(20):
        os.close(open_beneath(str(root), "d/f"))
        with pytest.raises(LeavesFolder):
            open_beneath(str(root), "link", follow=True)

    assert before == len(os.listdir("/dev/fd"))


def test_names_that_become_equal_are_told_apart(tmp_path: Path) -> None:
    out = tmp_path / "outputs"
    out.mkdir()
    (out / "a\n").write_text("1")
    (out / "a%0A").write_text("2")

    seen = scan(str(tmp_path))

    assert list(seen.files) == ["outputs/a%0A"]
    assert len(seen.unsaved) == 1
    assert "NameClash" in next(iter(seen.unsaved.values()))[1]


def test_a_name_too_long_for_the_store_is_said(tmp_path: Path) -> None:
    deep = tmp_path / "outputs" / "/".join(["x" * 200] * 4)
    deep.mkdir(parents=True)
    (deep / "f").write_text("1")

    assert "NameTooLong" in next(iter(scan(str(tmp_path)).unsaved.values()))[1]


def test_git_folders_are_never_saved(tmp_path: Path) -> None:
    (tmp_path / "outputs/repo/.git").mkdir(parents=True)
    (tmp_path / "outputs/repo/.git/config").write_text("token")

    seen = scan(str(tmp_path))

    assert seen.files == {}
    assert list(seen.skipped) == ["outputs/repo/.git"]


def test_on_a_full_disk_the_reserve_makes_room_for_the_exit_record_and_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Scratch(str(tmp_path))
    scratch.make()
    reserves = sorted(path for path in Path(scratch.run).iterdir() if path.name.startswith(".reserve"))
    room, mkstemp = len(reserves), tempfile.mkstemp

    def when_there_is_room(**arguments: str) -> tuple[int, str]:
        nonlocal room
        if sum(path.exists() for path in reserves) == room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= 1
        return mkstemp(**arguments)

    monkeypatch.setattr("stoker.runtime.layout.tempfile.mkstemp", when_there_is_room)

    write_json(scratch.stopping, {"reason": "Stopped"})
    write_json(scratch.exit, {"code": 0})
    write_json(scratch.sealed, {"complete": True})

    assert {"code": 0} == read_json(scratch.exit)
    with pytest.raises(OSError, match="No space left"):
        write_json(scratch.stopping, {})


# The journal


def test_a_journal_reads_back_what_was_noted(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    saved = Saved((1, 2, 3), wire.StoredFile("outputs/a", 1, EMPTY))
    journal.save("outputs/a", saved)
    journal.save("outputs/b", saved)
    journal.forget("outputs/b")
    journal.log_stored(77)
    journal.begin("outputs/c", Upload((9, 9, 9), "u1", 5, {}))
    journal.part("outputs/c", 1, "etag", EMPTY)
    journal.begin("outputs/d", Upload((9, 9, 9), "u2", 5, {}))
    journal.drop("outputs/d")
    journal.close()

    again = Journal(str(tmp_path))
    again.close()

    assert {"outputs/a": saved} == again.saved
    assert again.log_offset == 77
    assert {"outputs/c": Upload((9, 9, 9), "u1", 5, {1: ("etag", EMPTY)})} == again.uploads
    assert again.stale_uploads == [("outputs/d", "u2")]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_journal_that_was_cut_off_loses_only_its_last_line(tmp_path: Path, cut: int) -> None:
    journal = Journal(str(tmp_path))
    journal.log_stored(1)
    journal.save("outputs/a", Saved((1, 2, 3), wire.StoredFile("outputs/a", 1, EMPTY)))
    journal.close()
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])

    again = Journal(str(tmp_path))
    again.log_stored(2)
    again.close()
    last = Journal(str(tmp_path))
    last.close()

    assert (again.log_offset if cut == 0 else 1, last.log_offset) == (1, 2)


def test_rubbish_in_a_journal_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(
        b'\xff\n[1]\n{"saved": "x"}\n{"part": "nobody", "number": 1}\n{"log": 5}\n'
    )

    journal = Journal(str(tmp_path))
    journal.close()

    assert (journal.log_offset, journal.saved) == (5, {})


# Saving into a folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work/outputs").mkdir(parents=True)
    return tmp_path / "work"


@pytest.fixture
def store(tmp_path: Path) -> FolderTransport:
    return FolderTransport(str(tmp_path / "store"), "iris-0123abcd", 1, 0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(str(tmp_path / "journal"))
    yield one
    one.close()


def uploader(work: Path, store: FolderTransport, journal: Journal) -> Uploader:
    return Uploader(str(work), store, journal, dict, lambda: None)


def test_a_file_that_cannot_be_read_is_named(
    work: Path, store: FolderTransport, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "outputs/mine").write_text("x")
    (work / "outputs/other").write_text("y")

    def refuse(root: str, path: str) -> int:
        if path.endswith("mine"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_beneath(root, path)

    monkeypatch.setattr(upload, "open_file_beneath", refuse)

    (failure,) = uploader(work, store, journal).save(list(scan(str(work)).files.values()))

    assert (failure.path, failure.message) == ("outputs/mine", "Unreadable: Permission denied")
    assert list(journal.saved) == ["outputs/other"]


@pytest.mark.parametrize("change", [lambda p: p.write_text("longer"), lambda p: p.write_text(""), lambda p: p.unlink()])
def test_a_file_that_changed_since_it_was_found_is_not_taken(
    work: Path, store: FolderTransport, journal: Journal, change: Callable[[Path], None]
) -> None:
    (work / "outputs/a").write_text("abc")
    found = list(scan(str(work)).files.values())
    change(work / "outputs/a")

    assert uploader(work, store, journal).save(found) == []
    assert journal.saved == {}


def test_a_file_swapped_for_a_link_is_not_followed(work: Path, store: FolderTransport, journal: Journal) -> None:
    (work / "outputs/a").write_text("abc")
    found = list(scan(str(work)).files.values())
    (work.parent / "secret").write_text("key")
    (work / "outputs/a").unlink()
    (work / "outputs/a").symlink_to(work.parent / "secret")

    (failure,) = uploader(work, store, journal).save(found)

    assert "Unreadable" in failure.message
    assert not os.path.exists(store.prefix)


def test_a_seal_for_what_is_not_there_is_refused(work: Path, store: FolderTransport) -> None:
    with pytest.raises(Absent, match="outputs/a"):
        store.seal(None, [wire.StoredFile("outputs/a", 0, EMPTY)], [], [])


def test_a_seal_checks_what_lies_in_the_folder(work: Path, store: FolderTransport, journal: Journal) -> None:
    (work / "outputs/a").write_text("abc")
    uploader(work, store, journal).save(list(scan(str(work)).files.values()))
    Path(store.prefix, "outputs/a").write_text("xyz")

    with pytest.raises(Absent):
        store.seal(None, [journal.saved["outputs/a"].file], [], [])


def test_the_first_seal_stays_and_closes_the_rank(work: Path, store: FolderTransport, journal: Journal) -> None:
    assert store.seal({"code": 0}, [], [], []).ours
    assert store.seal({"code": 0}, [], [], []).ours, "the same seal again is no conflict"
    assert not store.seal({"code": 1}, [], [], []).ours

    (work / "outputs/late").write_text("x")
    with pytest.raises(Refused, match="nothing more is taken") as refusal:
        uploader(work, store, journal).save(list(scan(str(work)).files.values()))
    assert refusal.value.reason == "Sealed"


def test_a_full_disk_is_tried_again(store: FolderTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stoker.runtime.folder.tempfile.mkstemp", full)

    with pytest.raises(Transient, match="No space left"):
        list(store.put([wire.StoredFile("outputs/a", 0, EMPTY)], lambda file: lambda: iter([])))


@pytest.mark.parametrize("url", ["s3://b/x", "file://host/x", "/plain"])
def test_only_file_urls_name_a_folder(url: str) -> None:
    with pytest.raises(ValueError, match="is not a file"):
        folder_of_url(url)


def test_a_file_url_names_its_folder(tmp_path: Path) -> None:
    odd = tmp_path / "a b%c"

    assert str(odd) == folder_of_url(odd.as_uri())
