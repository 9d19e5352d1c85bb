"""Code given as text is an ordinary snapshot."""

import io
import zipfile
from pathlib import Path

import pytest

from stoker.storage.snapshot import SnapshotError, hash_files, scan, write_zip
from stoker.storage.snapshots import MAX_INLINE_BYTES, inline_snapshot
from tests.support.trees import tree


def test_it_is_what_the_same_files_in_a_folder_are(tmp_path: Path) -> None:
    files = {"train.py": "print('é')\n" * 50, "pkg/__init__.py": "", "a/b/c.txt": "x"}
    root, out = tree(tmp_path, files), io.BytesIO()

    hashed, packed = inline_snapshot(files)

    assert hash_files(scan(root)).manifest == hashed.manifest
    write_zip(root, hashed.entries, out)
    assert out.getvalue() == packed


def test_a_script_with_a_shebang_can_be_run() -> None:
    hashed, packed = inline_snapshot({"run.sh": "#!/bin/sh\n", "x.py": ""})

    assert {entry.path: entry.executable for entry in hashed.entries} == {"run.sh": True, "x.py": False}
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o777 == 0o755


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../x": ""}, r"'\.\./x'"),
        ({"/x": ""}, "absolute"),
        ({"a": "", "A": ""}, "only by case"),
        ({"a": "", "a/b": ""}, "also the folder"),
        ({"e\u0301": ""}, "NFC"),
        ({"big": "x" * (MAX_INLINE_BYTES + 1)}, "at most 204800"),
    ],
)
def test_what_no_snapshot_may_hold_is_refused(files: dict[str, str], message: str) -> None:
    with pytest.raises(SnapshotError, match=f"code.inline: .*{message}"):
        inline_snapshot(files)
