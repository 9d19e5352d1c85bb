"""The image that nodes pull to show that they can."""

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from stoker.images.selftest import self_test


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_the_same_bytes_come_out_each_time() -> None:
    assert self_test() == self_test()


def test_every_digest_that_is_named_is_there() -> None:
    image = self_test()

    assert all(name == digest(content) for name, content in {**image.blobs, **image.manifests}.items())
    entries = json.loads(image.index)["manifests"]
    assert ["amd64", "arm64"] == [entry["platform"]["architecture"] for entry in entries]
    assert [entry["digest"] for entry in entries] == list(image.manifests)
    for content in image.manifests.values():
        manifest = json.loads(content)
        for descriptor in (manifest["config"], *manifest["layers"]):
            assert descriptor["size"] == len(image.blobs[descriptor["digest"]])
        config = json.loads(image.blobs[manifest["config"]["digest"]])
        layers = [gzip.decompress(image.blobs[layer["digest"]]) for layer in manifest["layers"]]
        assert config["rootfs"]["diff_ids"] == [digest(layer) for layer in layers]


@pytest.mark.skipif(platform.system() != "Linux", reason="the programs are for Linux")
def test_its_program_ends_well(tmp_path: Path) -> None:
    """On the architecture of this machine; for one without a program there is nothing to run, and the test fails."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    image = self_test()
    entry = next(
        one for one in json.loads(image.index)["manifests"] if one["platform"]["architecture"] == machine
    )  # fmt: skip
    layer = json.loads(image.manifests[entry["digest"]])["layers"][0]["digest"]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(image.blobs[layer]))) as tar:
        tar.extractall(tmp_path, filter="data")

    assert os.access(tmp_path / "selftest", os.X_OK)
    assert 0 == subprocess.run([tmp_path / "selftest"]).returncode
