"""The installed product on a real cluster: chart, operator, server, a store, and pools that boot real nodes."""

import os
from pathlib import Path

import pytest

from tests.support import labs
from tests.support.installed import Stoker
from tools.demo import install


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One lab at a time: the tests with a cluster of their own come first, for they end the one that the others share."""
    places = [place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ours = sorted((items[place] for place in places), key=lambda item: item.path.name != "test_demo_on_a_cluster.py")
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def stoker(repository: Path) -> Stoker:
    """Stoker, installed by its chart on a lab of its own with one node for the system."""
    lab = labs.running(os.environ.get("STOKER_LAB", "stoker-test"), nodes=1)
    images = install(lab, progress=lambda line: None, bundled_registry=True)
    return Stoker(lab, repository, images)


@pytest.fixture(scope="session")
def cpu(stoker: Stoker) -> str:
    """A pool of real nodes, at zero, that keeps a node for a while once it has one."""
    stoker.pool("cpu", most=2, idle=120)
    return "cpu"
