"""Layers are written as `tarfile` would write them, and have the same bytes each time."""

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from stoker.images.layers import MTIME, Entries, File, Folder, Link, header, write_layer

LONG, LARGE = "a" * 101, 1 << 33

ENTRIES: Entries = {
    "opt/env/bin/tool": File.of(b"#!/bin/sh\n", executable=True),
    "opt/env/lib/empty.py": File.of(b""),
    "opt/env/lib/large": File(lambda: [b"x" * 700_000, b"y" * 700_000], 1_400_000),
    "opt/env/lib64": Link("lib"),
    "opt/env/void": Folder(owner=(5, 6), mode=0o1777),
    f"opt/env/{LONG}": File.of(b"long"),
}


def of_tarfile(path: str, entry: File | Link | Folder) -> bytes:
    expected = tarfile.TarInfo(path)
    expected.mtime, (expected.uid, expected.gid) = MTIME, entry.owner
    match entry:
        case Folder():
            expected.type, expected.mode = tarfile.DIRTYPE, entry.mode
        case Link(target):
            expected.type, expected.linkname, expected.mode = tarfile.SYMTYPE, target, 0o777
        case File(_, size, executable):
            expected.size = size
            expected.mode = entry.mode if entry.mode is not None else 0o755 if executable else 0o644
    return expected.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("a/b.py", File.of(b"xyz")),
        (LONG[:-1], File.of(b"as long as fits", executable=True)),
        (LONG, File.of(b"longer")),
        ("a" * 99, Folder()),
        ("a" * 100, Folder()),
        ("café", Folder(owner=(5, 6), mode=0o1777)),
        ("link", Link(LONG[:-1])),
        ("link", Link(LONG)),
        ("link", Link("ü")),
        ("large", File(b"", LARGE - 1)),
        ("larger", File(b"", LARGE)),
        ("owned", File(b"", 1, owner=((1 << 21) - 1, 77), mode=0o4755)),
        ("owned", File(b"", 1, owner=(1 << 21, 0))),
    ],
)
def test_a_header_is_that_of_tarfile(path: str, entry: File | Link | Folder) -> None:
    assert of_tarfile(path, entry) == header(path, entry)


def test_a_layer_is_a_tar_that_holds_what_was_given(tmp_path: Path) -> None:
    layer = write_layer(ENTRIES, tmp_path / "layer", root="opt/env")

    packed = (tmp_path / "layer").read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(packed).read()
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        members = {one.name: one for one in tar}
        large = tar.extractfile("opt/env/lib/large")
        assert large is not None
        assert b"x" * 700_000 + b"y" * 700_000 == large.read()
    assert sorted({*ENTRIES, "opt/env", "opt/env/bin", "opt/env/lib"}) == list(members)
    assert (len(packed), 0) == (layer.size, len(plain) % tarfile.RECORDSIZE)
    assert (0o755, 0o644) == (members["opt/env/bin/tool"].mode, members["opt/env/lib/empty.py"].mode)


def test_two_layers_of_the_same_files_are_one(tmp_path: Path) -> None:
    """However the files come, and in whatever order."""
    in_pieces: Entries = {
        **dict(reversed(ENTRIES.items())),
        "opt/env/lib/large": File.of(b"x" * 700_000 + b"y" * 700_000),
    }

    one = write_layer(ENTRIES, tmp_path / "one", root="opt/env")
    other = write_layer(in_pieces, tmp_path / "other", root="opt/env")

    assert one.diff_id == other.diff_id


def test_a_file_that_has_changed_meanwhile_makes_no_layer(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="lib/a has 1 bytes instead of 2"):
        write_layer({"lib/a": File(lambda: [b"x"], 2)}, tmp_path / "layer", root="lib")
