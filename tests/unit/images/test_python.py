"""Archives of managed Pythons: unpacked where they belong, refused where they would write elsewhere."""

import asyncio
import io
import tarfile
from pathlib import Path

import pytest

from stoker.images import python
from stoker.images.failure import BuildFailed
from stoker.images.layers import File, Link
from stoker.images.wheel import Layout

LAYOUT = Layout("/opt/env", "3.11", own_python=True)


def archive(folder: Path, *members: tuple[str, bytes, str], content: bytes = b"x") -> Path:
    """members: name, kind, where a link leads."""
    path = folder / "digest" / "python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, target in (("python/bin/python3.11", tarfile.REGTYPE, ""), *members):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = kind, target, 0o755
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(content) if entry.size else None)
    return path


def unpacked(folder: Path, path: Path) -> dict[str, object]:
    async def entries() -> dict[str, object]:
        opened = await python.opened(path, LAYOUT, folder / "scratch", None)
        return dict(await opened.entries())

    (folder / "scratch").mkdir()
    return asyncio.run(entries())


def test_files_and_links_lie_at_the_prefix(tmp_path: Path) -> None:
    found = unpacked(
        tmp_path,
        archive(
            tmp_path,
            ("python/bin/python3", tarfile.SYMTYPE, "python3.11"),
            ("python/lib/one.so", tarfile.REGTYPE, ""),
            ("python/lib/deep/up.so", tarfile.SYMTYPE, "../one.so"),
            ("python/lib/same.so", tarfile.LNKTYPE, "python/lib/one.so"),
        ),
    )

    interpreter, link = found["opt/env/bin/python3.11"], found["opt/env/lib/deep/up.so"]
    assert isinstance(interpreter, File)
    assert interpreter.executable
    assert Link("../one.so") == link
    assert Link("python3.11") == found["opt/env/bin/python3"] == found["opt/env/bin/python"]
    assert {"opt/env/lib/one.so", "opt/env/lib/same.so"} <= found.keys()


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", tarfile.REGTYPE, "")],
        [("/tmp/outside-of-the-archive", tarfile.REGTYPE, "")],
        [("python/out", tarfile.SYMTYPE, "/etc")],
        [("python/out", tarfile.SYMTYPE, "../../outside")],
        [("python/out", tarfile.LNKTYPE, "../outside")],
        [("python/pipe", tarfile.FIFOTYPE, "")],
        # Each link by itself looks as if it stayed inside.
        [("python/a/up", tarfile.SYMTYPE, "../.."), ("python/b", tarfile.SYMTYPE, "a/up/.."), ("python/b/x", b"0", "")],
    ],
)
def test_what_would_write_elsewhere_is_refused(members: list[tuple[str, bytes, str]], tmp_path: Path) -> None:
    path = archive(tmp_path, *members)
    before = {one for one in tmp_path.iterdir() if one.name != "scratch"}

    with pytest.raises(BuildFailed) as refused:
        unpacked(tmp_path, path)

    assert "BadPackage" == refused.value.reason
    assert before == {one for one in tmp_path.iterdir() if one.name != "scratch"}
