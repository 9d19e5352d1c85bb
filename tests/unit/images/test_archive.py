"""Wheels are read like any zip, and a broken one is said to be broken."""

import zipfile
from pathlib import Path

import pytest

from stoker.images.archive import Archive
from stoker.images.failure import BuildFailed

CONTENTS = {"a/one.py": b"x = 1\n" * 200_000, "a/empty.py": b"", "a/two.py": b"y"}


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def wheel(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", request.param) as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    return path


def test_a_members_blocks_are_its_content(wheel: Path) -> None:
    with Archive(wheel) as archive:
        assert CONTENTS == {name: b"".join(archive.blocks(name)) for name in archive.namelist()}
        assert CONTENTS == {name: archive.read(name) for name in archive.namelist()}


def test_a_member_has_a_name_before_it_is_read(wheel: Path) -> None:
    with Archive(wheel) as archive, archive.open("a/two.py") as member:
        assert "a/two.py" == member.name
        assert b"y" == member.read()


@pytest.mark.parametrize("wheel", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], indirect=True)
def test_a_changed_byte_is_noticed(wheel: Path) -> None:
    with Archive(wheel) as archive:
        member = archive.getinfo("a/one.py")
        place = member.header_offset + 30 + len(member.filename) + member.compress_size // 2
    content = bytearray(wheel.read_bytes())
    content[place] ^= 0xFF
    wheel.write_bytes(content)

    with Archive(wheel) as archive, pytest.raises(BuildFailed, match=r"a/one\.py cannot be read") as failed:
        list(archive.blocks("a/one.py"))

    assert "BadPackage" == failed.value.reason
