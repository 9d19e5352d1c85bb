"""The installed product on a real cluster: chart, operator, server, a store, and pools that boot real nodes."""

import os
from pathlib import Path

import pytest

from tests.support import labs
from tests.support.installed import Stoker
from tools.demo import install


@pytest.fixture(scope="session")
def stoker(repository: Path) -> Stoker:
    """Stoker, installed by its chart on a lab of its own with one node for the system."""
    lab = labs.running(os.environ.get("STOKER_LAB", "stoker-test"), nodes=1)
    images = install(lab, progress=lambda line: None)
    return Stoker(lab, repository, images)


@pytest.fixture(scope="session")
def cpu(stoker: Stoker) -> str:
    """A pool of real nodes, at zero, that keeps a node for a while once it has one."""
    stoker.pool("cpu", most=2, idle=120)
    return "cpu"
