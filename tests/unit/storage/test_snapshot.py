"""One folder, one digest; and a zip that carries exactly what the digest names."""

import io
import os
import random
import stat
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.runtime.unpack import unpack
from stoker.runtime.wire import decode_manifest
from stoker.storage import hashing
from stoker.storage.snapshot import Hashed, SnapshotError, StatCache, hash_files, scan, write_zip
from tests.support.trees import tree

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and exec bits")

SMALL: dict[str, str | bytes] = {
    "train.py": "print('hello')\n",
    "pkg/__init__.py": "",
    "pkg/données.txt": "été\n",
    "bin/run.sh": "#!/bin/sh\nexec python train.py\n",
    "noise.bin": random.Random(7).randbytes(5000),
}


def small(root: Path) -> Path:
    tree(root, SMALL)
    (root / "bin/run.sh").chmod(0o755)
    (root / "latest").symlink_to("pkg/données.txt")
    return root


def hashed(root: Path, cache: StatCache | None = None) -> Hashed:
    return hash_files(scan(root), cache)


def packed(root: Path, found: Hashed, level: int = 1) -> bytes:
    out = io.BytesIO()
    assert write_zip(root, found.entries, out, level=level) == len(out.getvalue())
    return out.getvalue()


@posix
def test_the_digest_of_a_small_tree_stays_what_it_is(tmp_path: Path) -> None:
    assert hashed(small(tmp_path)).digest == "sha256:a2cc523528b71d613d788a8a54ccdcb1dd3e20acc119604775407ecd57382da7"


@posix
def test_times_owners_modes_and_order_do_not_count(tmp_path: Path) -> None:
    one, other = small(tmp_path / "one"), tmp_path / "other"
    for path in reversed(list(SMALL)):
        tree(other, {path: SMALL[path]})
        os.utime(other / path, (1, 1))
        (other / path).chmod(0o600)
    (other / "bin/run.sh").chmod(0o700)
    (other / "latest").symlink_to("pkg/données.txt")
    tree(other, {"empty/folder/": ""})

    assert hashed(one).digest == hashed(other).digest
    assert packed(one, hashed(one)) == packed(other, hashed(other))


@posix
@pytest.mark.parametrize("change", ["content", "name", "mode", "link", "gone", "empty"])
def test_what_counts_changes_the_digest(tmp_path: Path, change: str) -> None:
    root = small(tmp_path)
    before = hashed(root).digest
    if change == "content":
        (root / "train.py").write_text("print('hellO')\n")
    elif change == "name":
        (root / "train.py").rename(root / "main.py")
    elif change == "mode":
        (root / "train.py").chmod(0o755)
    elif change == "link":
        (root / "latest").unlink()
        (root / "latest").symlink_to("train.py")
    elif change == "gone":
        (root / "pkg/__init__.py").unlink()
    else:
        (root / "new").write_text("")

    assert before != hashed(root).digest


@posix
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_any_level_unpacks_to_the_same_tree_and_digest(tmp_path: Path, level: int) -> None:
    root, back = small(tmp_path / "root"), tmp_path / "back"
    found = hashed(root)
    archive = tmp_path / "x.zip"
    archive.write_bytes(packed(root, found, level))
    back.mkdir()

    unpack(found.manifest, str(archive), str(back), found.digest)

    assert found.digest == hashed(back).digest


@posix
def test_the_zip_has_one_date_two_modes_and_no_extra_fields(tmp_path: Path) -> None:
    root = small(tmp_path)
    with zipfile.ZipFile(io.BytesIO(packed(root, hashed(root)))) as archive:
        members = archive.infolist()

    assert [entry.path for entry in hashed(root).entries] == [member.filename for member in members]
    assert {(1980, 1, 1, 0, 0, 0)} == {member.date_time for member in members}
    assert {b""} == {member.extra for member in members}
    modes = {member.filename: member.external_attr >> 16 for member in members}
    assert modes["bin/run.sh"] == stat.S_IFREG | 0o755
    assert modes["train.py"] == stat.S_IFREG | 0o644
    assert stat.S_ISLNK(modes["latest"])
    methods = {member.filename: member.compress_type for member in members}
    assert methods["noise.bin"] == zipfile.ZIP_STORED, "what does not shrink is stored"


def test_a_large_file_goes_in_pieces_and_has_no_extra_field(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "root",
        {"weights.bin": b"0123456789abcdef" * (5 << 16), "noise": random.Random(1).randbytes(5 << 20)},
    )
    found, back = hashed(root), tmp_path / "back"
    (tmp_path / "x.zip").write_bytes(packed(root, found))
    back.mkdir()

    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert {b""} == {member.extra for member in archive.infolist()}
    unpack(found.manifest, str(tmp_path / "x.zip"), str(back), found.digest)
    assert found.digest == hashed(back).digest


@pytest.mark.parametrize("size", [10, 5 << 20])
@pytest.mark.parametrize("how", ["grows", "shrinks", "differs", "goes"])
def test_a_file_that_changes_before_it_is_packed_is_named(tmp_path: Path, size: int, how: str) -> None:
    root = tree(tmp_path, {"moving.bin": b"x" * size, "still": ""})
    found = hashed(root)
    moving = root / "moving.bin"
    if how == "goes":
        moving.unlink()
    else:
        moving.write_bytes({"grows": b"x" * (size + 1), "shrinks": b"x" * (size - 1), "differs": b"y" * size}[how])

    with pytest.raises(SnapshotError, match=r"moving\.bin: "):
        packed(root, found)


@pytest.mark.parametrize("new", ["longer than it was", "cut", None])
def test_a_file_that_changes_before_it_is_hashed_is_named(tmp_path: Path, new: str | None) -> None:
    root = tree(tmp_path, {"moving.txt": "as it was"})
    listing = scan(root)
    (root / "moving.txt").write_text(new) if new else (root / "moving.txt").unlink()

    with pytest.raises(SnapshotError, match=r"moving\.txt: "):
        hash_files(listing)


@posix
def test_a_name_in_another_unicode_form_is_found_on_disk(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cafe\u0301/e\u0301.py": "x"})
    found = hashed(root)

    with zipfile.ZipFile(io.BytesIO(packed(root, found))) as archive:
        assert archive.namelist() == ["café/é.py"]


# --- the cache ----------------------------------------------------------------------------------------------------


def aged(root: Path) -> Path:
    """The tree as if it had lain there for a while: nothing in it is racy."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    return root


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing takes place ten seconds from now, so that what was written just now is not racy."""
    real = hashing.time.time_ns
    monkeypatch.setattr(hashing.time, "time_ns", lambda: real() + 10_000_000_000)


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, later: None) -> None:
    root, caches = tree(tmp_path / "root", {"a": "1", "b": "2"}), tmp_path / "cache"

    first = hashed(root, StatCache.open(root, caches))
    second = hashed(root, StatCache.open(root, caches))
    (root / "b").write_text("3")
    third = hashed(root, StatCache.open(root, caches))

    assert (first.read, second.read, third.read) == (2, 0, 1)
    assert first.digest == second.digest
    assert hashed(root).digest == third.digest


def test_a_file_written_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    root, caches = tree(tmp_path / "root", {"a": "one"}), tmp_path / "cache"
    first = hashed(root, StatCache.open(root, caches))
    status = (root / "a").stat()
    (root / "a").write_text("two")
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))  # as a write within the same tick would leave it

    second = hashed(root, StatCache.open(root, caches))

    assert first.digest != second.digest
    assert second.read == 1


@posix
def test_a_file_with_its_old_time_put_back_is_read_again(tmp_path: Path, later: None) -> None:
    root, caches = tree(tmp_path / "root", {"a": "one"}), tmp_path / "cache"
    first = hashed(root, StatCache.open(root, caches))
    status = (root / "a").stat()
    (root / "a").write_text("two")
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))

    assert first.digest != hashed(root, StatCache.open(root, caches)).digest


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\x93\x01\xa1x\x90", b"not msgpack at all"])
def test_a_damaged_cache_costs_time_only(tmp_path: Path, later: None, damage: bytes) -> None:
    root, caches = tree(tmp_path / "root", {"a": "1"}), tmp_path / "cache"
    first = hashed(root, StatCache.open(root, caches))
    for file in caches.iterdir():
        file.write_bytes(damage)

    second = hashed(root, StatCache.open(root, caches))

    assert (first.digest, 1) == (second.digest, second.read)


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": "1"})
    tree(tmp_path, {"file": ""})

    assert hashed(root).digest == hashed(root, StatCache.open(root, tmp_path / "file" / "below")).digest


def test_two_folders_do_not_share_a_cache(tmp_path: Path, later: None) -> None:
    one, other = tree(tmp_path / "one", {"a": "1"}), tree(tmp_path / "two", {"a": "2"})
    caches = tmp_path / "cache"
    hashed(one, StatCache.open(one, caches))

    assert hashed(other).digest == hashed(other, StatCache.open(other, caches)).digest


# --- for any tree -------------------------------------------------------------------------------------------------

names = st.text(st.sampled_from("abcXYZ09 ._-é語😀#[]{}~%+='&$@!,;"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..") and name.casefold() not in (".git", ".stoker", ".amlignore", ".gitignore")
)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map("/".join), st.tuples(st.binary(max_size=200), st.booleans()), max_size=8
)


def _fits_everywhere(files: dict[str, tuple[bytes, bool]]) -> bool:
    folded = [path.casefold() for path in files]
    folders = {"/".join(path.split("/")[:end]) for path in folded for end in range(1, path.count("/") + 1)}
    return len(set(folded)) == len(folded) and not folders & set(folded)


@posix
@settings(deadline=None)
@given(files=trees.filter(_fits_everywhere), seed=st.randoms(use_true_random=False))
def test_a_tree_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, tuple[bytes, bool]], seed: random.Random
) -> None:
    """Scan, hash, pack, unpack, scan: same digest; in whatever order the files were made."""
    where = tmp_path_factory.mktemp("tree")
    root, back = where / "root", where / "back"
    root.mkdir()
    back.mkdir()
    for path in seed.sample(sorted(files), len(files)):
        tree(root, {path: files[path][0]})
        (root / path).chmod(0o755 if files[path][1] else 0o644)

    found = hash_files(scan(root, allow_secrets=("*",)))
    (where / "x.zip").write_bytes(packed(root, found))
    unpack(found.manifest, str(where / "x.zip"), str(back), found.digest)

    assert found.entries == decode_manifest(found.manifest)
    assert sorted(files) == sorted(entry.path for entry in found.entries)
    assert found.digest == hash_files(scan(back, allow_secrets=("*",))).digest
