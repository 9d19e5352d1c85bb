"""Strict unpacking: what the manifest says is written, and nothing else, anywhere."""

import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.runtime import unpack as unpacking
from stoker.runtime import wire
from stoker.runtime.unpack import UnpackRefused, unpack
from stoker.runtime.wire import Entry

Tree = dict[str, bytes]


def entries_of(tree: Tree) -> list[Entry]:
    return [Entry(path, len(body), hashlib.sha256(body).hexdigest()) for path, body in tree.items()]


def link(path: str, target: str) -> Entry:
    return Entry(path, 0, hashlib.sha256(target.encode()).hexdigest(), False, target)


def zip_of(tree: Tree, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as package:
        for path, body in tree.items():
            package.writestr(zipfile.ZipInfo(path), body, method)
    return buffer.getvalue()


class Place:
    """A folder to unpack into, inside a folder in which nothing else may appear."""

    def __init__(self, root: Path) -> None:
        self.root, self.target, self.archive = root, root / "target", root / "code.zip"
        self.target.mkdir()

    def unpack(self, entries: list[Entry], archive: bytes, digest: str | None = None) -> tuple[Entry, ...]:
        self.archive.write_bytes(archive)
        return unpack(wire.encode_manifest(entries), str(self.archive), str(self.target), digest)

    def refuses(self, entries: list[Entry], archive: bytes, words: str) -> None:
        with pytest.raises(UnpackRefused, match=words) as refusal:
            self.unpack(entries, archive)
        assert refusal.value.reason == "SnapshotCorrupt"
        assert sorted(os.listdir(self.root)) == ["code.zip", "target"], "something was written outside"

    @property
    def files(self) -> Tree:
        return {
            str(path.relative_to(self.target)): path.read_bytes()
            for path in self.target.rglob("*")
            if path.is_file() and not path.is_symlink()
        }


@pytest.fixture(params=["descriptors", "paths"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """With directory descriptors, and as on systems that have none."""
    monkeypatch.setattr(unpacking, "_HAS_DIR_FD", request.param == "descriptors")
    return Place(tmp_path)


TREE = {"train.py": b"print(1)\n" * 100, "data/a/x.bin": bytes(range(256)) * 10, "data/empty": b"", "z/ä.txt": b"\xff"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_tree_comes_out_as_it_went_in(place: Place, method: int) -> None:
    entries = [entry._replace(executable=entry.path == "train.py") for entry in entries_of(TREE)]
    entries.append(link("latest", "data/a"))

    written = place.unpack(entries, zip_of(TREE, method), wire.manifest_digest(wire.encode_manifest(entries)))

    assert place.files == TREE
    assert len(written) == 5
    assert os.readlink(place.target / "latest") == "data/a"
    if unpacking._HAS_DIR_FD:
        assert (place.target / "train.py").stat().st_mode & 0o100
        assert not (place.target / "data/empty").stat().st_mode & 0o111


trees = st.dictionaries(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=3).map("/".join), st.binary(max_size=2000), max_size=8
).filter(lambda tree: not any(other.startswith(path + "/") for path in tree for other in tree))


@settings(max_examples=50)
@given(tree=trees, method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_any_tree_comes_out_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, tree: Tree, method: int) -> None:
    place = Place(tmp_path_factory.mktemp("place"))

    place.unpack(entries_of(tree), zip_of(tree, method))

    assert tree == place.files


@settings(max_examples=200, deadline=None)
@given(tree=trees, data=st.data())
def test_a_damaged_zip_never_gives_another_tree(
    tmp_path_factory: pytest.TempPathFactory, tree: Tree, data: st.DataObject
) -> None:
    place = Place(tmp_path_factory.mktemp("place"))
    archive = bytearray(zip_of(tree))
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] ^= data.draw(st.integers(1, 255))

    try:
        place.unpack(entries_of(tree), bytes(archive))
    except UnpackRefused:
        assert sorted(os.listdir(place.root)) == ["code.zip", "target"]
        return
    assert tree == place.files


def test_a_manifest_with_another_digest_is_refused(place: Place) -> None:
    with pytest.raises(UnpackRefused, match=r"and not sha256:00"):
        place.unpack(entries_of(TREE), zip_of(TREE), "sha256:00")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil", "not in the manifest"), ("/tmp/evil", "not in the manifest"), ("a/../../evil", "not in the manifest"),
        ("..\\evil", "not in the manifest"), ("A", "not in the manifest"), ("a\0.py", "not in the manifest"),
        ("more", "not in the manifest"), ("dir/", "not in the manifest"),
    ],
)  # fmt: skip
def test_an_entry_beside_the_manifest_is_refused(place: Place, name: str, words: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr("a", b"1")
        package.writestr("X" * len(name), b"2")
    # Written by hand: zipfile would clean the name.
    archive = buffer.getvalue().replace(b"X" * len(name), name.encode())

    place.refuses(entries_of({"a": b"1"}), archive, words)


def test_a_slip_in_the_manifest_itself_is_refused(place: Place) -> None:
    place.refuses(entries_of({"../evil": b"1"}), zip_of({"../evil": b"1"}), "manifest is not valid")


def test_a_file_below_a_link_is_refused(place: Place) -> None:
    entries = [link("d", "../.."), *entries_of({"d/evil": b"1"})]

    place.refuses(entries, zip_of({"d/evil": b"1"}), "manifest is not valid")


def test_a_missing_entry_is_refused(place: Place) -> None:
    place.refuses(entries_of({"a": b"1", "b": b"2"}), zip_of({"a": b"1"}), "'b' is in the manifest and not in the zip")


def test_another_content_is_refused(place: Place) -> None:
    place.refuses(entries_of({"a": b"1"}), zip_of({"a": b"2"}), "does not have the content")


def test_another_size_is_refused_before_anything_is_written(place: Place) -> None:
    place.refuses(entries_of({"a": b"1", "b": b"1"}), zip_of({"a": b"1", "b": b"11"}), "2 bytes in the zip and 1")

    assert place.files == {}


def test_a_double_entry_is_refused(place: Place) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr("a", b"1")
        package.writestr("b", b"1")
    archive = buffer.getvalue().replace(b"b", b"a")

    place.refuses(entries_of({"a": b"1"}), archive, "in the zip twice")


def test_a_bomb_that_lies_about_its_size_is_refused(place: Place) -> None:
    archive = zip_of({"a": b"\0" * 1_000_000})
    lying = archive.replace(struct.pack("<L", 1_000_000), struct.pack("<L", 1000))

    place.refuses(entries_of({"a": b"\0" * 1000}), lying, "cannot be read|more than its|content")
    assert sum(map(len, place.files.values())) <= 1000


def test_a_zip_larger_than_its_manifest_explains_is_refused(place: Place) -> None:
    place.refuses(entries_of({"a": b"1"}), b"\0" * 200_000 + zip_of({"a": b"1"}), "more than its manifest can explain")


def test_entries_that_share_bytes_are_refused(place: Place) -> None:
    archive = bytearray(zip_of({"a": b"same", "b": b"same"}))
    second = archive.rindex(b"PK\x01\x02")
    archive[second + 42 : second + 46] = struct.pack("<L", 0)

    place.refuses(entries_of({"a": b"same", "b": b"same"}), bytes(archive), "shares bytes|cannot be read")


@pytest.mark.parametrize(("method", "name"), [(93, "zstd"), (12, "bzip2"), (14, "lzma"), (77, "method 77")])
def test_another_method_is_refused_by_name(place: Place, method: int, name: str) -> None:
    archive = bytearray(zip_of({"a": b"1"}))
    central = archive.rindex(b"PK\x01\x02")
    archive[central + 10 : central + 12] = struct.pack("<H", method)

    place.refuses(entries_of({"a": b"1"}), bytes(archive), f"packed with {name}; only stored and deflate")


def test_an_encrypted_entry_is_refused(place: Place) -> None:
    archive = bytearray(zip_of({"a": b"1"}))
    central = archive.rindex(b"PK\x01\x02")
    archive[central + 8] |= 1

    place.refuses(entries_of({"a": b"1"}), bytes(archive), "encrypted")


def test_names_that_differ_only_by_case_are_refused(place: Place) -> None:
    tree = {"A": b"1", "a": b"1"}

    place.refuses(entries_of(tree), zip_of(tree), "only by case")


@pytest.mark.parametrize("prepare", [lambda p: p.write_text("x"), lambda p: p.symlink_to("/etc/passwd")])
def test_what_is_there_already_is_never_replaced_or_followed(place: Place, prepare: Callable[[Path], None]) -> None:
    prepare(place.target / "a")

    place.refuses(entries_of({"a": b"1"}), zip_of({"a": b"1"}), "there already")


def test_a_folder_that_is_a_link_is_not_followed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (place.target / "d").symlink_to(outside)

    place.refuses(entries_of({"d/a": b"1"}), zip_of({"d/a": b"1"}), "no folder|is a link")

    assert list(outside.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_the_first_write(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda path: _Usage())

    with pytest.raises(UnpackRefused, match=r"needs 4096 bytes and .* has 100 free") as refusal:
        place.unpack(entries_of({"a": b"1"}), zip_of({"a": b"1"}))

    assert refusal.value.reason == "ScratchTooSmall"
    assert place.files == {}


class _Usage:
    free = 100


def test_what_is_no_zip_is_refused(place: Place) -> None:
    place.refuses(entries_of({"a": b"1"}), b"PK nonsense", "cannot be read")
