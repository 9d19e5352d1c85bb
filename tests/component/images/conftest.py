"""What tests of the builder share: packages made on the spot, a registry for each module, an ordinary base in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import packages
from tests.support import registries
from tests.support.environments import push_base
from tests.support.registries import RunningRegistry


@pytest.fixture(scope="session")
def package_folder() -> Path:
    return packages.ensure(lambda line: None)


@pytest.fixture(scope="module")
def served(package_folder: Path) -> Iterator[packages.Packages]:
    with packages.serving(package_folder) as found:
        yield found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def base(registry: RunningRegistry) -> str:
    return push_base(registry)
