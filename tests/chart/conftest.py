"""The chart, rendered by the lab's helm."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import binaries

Values = dict[str, Any]
#: Renders the chart with values; the text as helm prints it.
Render = Callable[..., str]


class Refused(Exception):
    """Helm refused the values or a template refused to render; the message is helm's."""


@pytest.fixture(scope="session")
def helm() -> Path:
    return binaries.ensure(lambda line: None)["helm"]


@pytest.fixture(scope="session")
def chart(repository: Path) -> Path:
    return repository / "charts" / "stoker"


@pytest.fixture(scope="session")
def render(helm: Path, chart: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """`render({...}, repository=..., namespace=...)`; the one required value is there unless it is given as None."""

    def rendered(
        values: Values | None = None,
        *,
        repository: str | None = "registry.example.com/stoker",
        namespace: str = "stoker-system",
    ) -> str:
        given = copy.deepcopy(values or {})
        if repository is not None:
            given.setdefault("image", {}).setdefault("repository", repository)
        file = tmp_path_factory.mktemp("values") / "values.json"
        file.write_text(json.dumps(given))
        done = subprocess.run(
            [helm, "template", "stoker", chart, "-n", namespace, "-f", file], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout

    return rendered


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered chart."""
    return [one for one in yaml.safe_load_all(text) if one]


def one(text: str, kind: str, name: str) -> dict[str, Any]:
    """The object of this kind and name."""
    (found,) = [found for found in objects(text) if (found["kind"], found["metadata"]["name"]) == (kind, name)]
    return found
