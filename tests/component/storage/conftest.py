"""Stores for the shared promise: a folder, and a real S3 server."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.storage.objects import ObjectStore, StoreOptions, open_store
from stoker.storage.signing import Signer


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, StoreOptions]]:
    """URL of a prefix of its own, and how to reach it: a versitygw of this session, or what STOKER_TEST_STORAGE_URL
    and the AWS variables name."""
    prefix = f"test-{secrets.token_hex(4)}"
    if url := os.environ.get("STOKER_TEST_STORAGE_URL"):
        yield f"{url.rstrip('/')}/{prefix}", StoreOptions.from_env()
        return
    from tests.support.s3 import versitygw

    with versitygw(tmp_path_factory.mktemp("versitygw")) as (url, options):
        yield f"{url}/{prefix}", options


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
