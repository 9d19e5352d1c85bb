"""An API server in this process for each test."""

from collections.abc import AsyncIterator

import pytest

from stoker.kube import client as client_module
from stoker.kube import reflector as reflector_module
from tests.support.fake_api import FakeApi


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(reflector_module, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(reflector_module, "LONGEST_BACKOFF_SECONDS", 0.02)
