"""What every test shares."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The same examples in each run, and none fails for being slow on a busy machine. New ones: HYPOTHESIS_PROFILE=explore.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return ROOT


@pytest.fixture(autouse=True)
def _signals_come_as_before() -> Iterator[None]:
    """What one test leaves blocked, every process that a later one starts ignores."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    left = signal.pthread_sigmask(signal.SIG_SETMASK, before) - before
    assert not left, f"left blocked: {left}"


@pytest.fixture(scope="session", autouse=True)
def _labs_end_with_the_session() -> Iterator[None]:
    yield
    from sys import modules

    if labs := modules.get("tests.support.labs"):
        labs.end_all()
