"""What tests of the controller share."""

from collections.abc import AsyncIterator

import pytest

from stoker.kube import client as client_module
from tests.support.fake_api import FakeApi


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    """An API server whose faults are tried again at once."""
    monkeypatch.setattr(client_module, "BACKOFF_SECONDS", 0.001)
    fake = FakeApi()
    await fake.start()
    yield fake
    await fake.stop()
