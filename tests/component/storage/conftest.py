"""Stores for the shared promise: a folder, and the lab's S3 server."""

import os
import secrets
from pathlib import Path

import pytest

from stoker.storage.objects import ObjectStore, StoreOptions, open_store
from stoker.storage.signing import Signer


@pytest.fixture(scope="session")
def s3() -> tuple[str, StoreOptions]:
    """URL of a prefix of its own, and how to reach it: the lab's versitygw, or what STOKER_TEST_STORAGE_URL and the
    AWS variables name."""
    prefix = f"test-{secrets.token_hex(4)}"
    if url := os.environ.get("STOKER_TEST_STORAGE_URL"):
        return f"{url.rstrip('/')}/{prefix}", StoreOptions.from_env()
    from tests.support import labs

    server = labs.running(os.environ.get("STOKER_LAB", "stoker-test"), nodes=1).s3
    options = StoreOptions(server.endpoint, server.region, server.access_key, server.secret_key)
    return f"s3://{server.bucket}/{prefix}", options


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.lab)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "file":
        return open_store((tmp_path / "the store").as_uri())
    url, options = request.getfixturevalue("s3")
    return open_store(f"{url}/{secrets.token_hex(4)}", options)


@pytest.fixture
def signer(s3: tuple[str, StoreOptions]) -> Signer:
    url, options = s3
    return Signer(f"{url}/{secrets.token_hex(4)}", options)
