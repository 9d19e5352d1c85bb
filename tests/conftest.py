"""What every test shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _labs_end_with_the_session() -> Iterator[None]:
    yield
    from sys import modules

    if labs := modules.get("tests.support.labs"):
        labs.end_all()
