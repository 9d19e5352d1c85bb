"""A base's layers are read to their ends, and a broken one is no base."""

import gzip
import io
import tarfile
import threading
from collections.abc import Callable

import pytest
import zstandard

from stoker.images.probe import BROKEN, Findings, Interpreter


def layer() -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for path, content in {
            "usr/bin/python3.11": b"x" * 3_000_000,
            "usr/lib/x86_64-linux-gnu/libc.so.6": b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.",
        }.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return memory.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_layer_tells_its_python_and_its_c_library(pack: Callable[[bytes], bytes]) -> None:
    findings = Findings()

    findings.read(io.BytesIO(pack(layer())))

    assert (2, 36) == findings.glibc
    assert [Interpreter("/usr/bin/python3.11", "3.11")] == list(findings.interpreters({}))


@pytest.mark.parametrize(
    "broken",
    [
        gzip.compress(layer())[:-8] + b"\0" * 8,
        gzip.compress(layer())[:2000],
        b"no tar at all",
        gzip.compress(b"no tar at all"),
        zstandard.ZstdCompressor().compress(layer())[:-3],
    ],
    ids=["sums", "cut", "plain", "packed", "zstd"],
)
def test_a_broken_layer_is_noticed_and_leaves_no_thread(broken: bytes) -> None:
    before = threading.active_count()

    with pytest.raises(BROKEN):
        Findings().read(io.BytesIO(broken))

    assert before == threading.active_count()
