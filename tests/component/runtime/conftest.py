from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.runtime.pod import Cloud, Pod


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    server = Cloud()
    yield server
    server.close()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    """A pod without a server."""
    one = Pod(tmp_path / "pod").prepare()
    yield one
    one.close()


@pytest.fixture
def cloud_pod(tmp_path: Path, cloud: Cloud) -> Iterator[Pod]:
    """A pod whose server and store is `cloud`."""
    one = Pod(tmp_path / "pod", cloud).prepare()
    yield one
    one.close()
