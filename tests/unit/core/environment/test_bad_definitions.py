"""Every broken definition is named with field, line and fix: by the CLI before anything is sent, and in the cluster.

`bad_environments.txt` has what is said; after a change of words write it anew with
`python -m tests.unit.core.environment.test_bad_definitions` and read the difference.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from stoker.api.environment import EnvironmentSpec
from stoker.api.validate import problems
from stoker.core.environment import definition
from stoker.core.environment.definition import BadDefinition
from stoker.errors import StokerError
from stoker.sdk.definitions import of_file
from stoker.sdk.prepare import code_tree
from tests.support.broken_environments import FOLDER, GOLDEN, golden, names

SAID = golden() if GOLDEN.exists() else {}


def by_the_cli(name: str) -> list[str]:
    try:
        of_file(FOLDER / name / "env.yaml", "env.yaml")
    except StokerError as error:
        return str(error).replace(str(FOLDER / name), "DIR").splitlines()
    return []


def in_the_cluster(name: str) -> list[str]:
    """What a condition says of a manifest that the API server lets through; of one that it refuses, what it says."""
    document = yaml.safe_load((FOLDER / name / "env.yaml").read_text())
    if "kind" not in document:
        return []
    if refused := problems("Environment", document):
        return [f"refused: {one}" for one in refused]
    spec = msgspec.convert(document["spec"], EnvironmentSpec)
    files: dict[str, str | None] = {}
    while wanted := definition.files_wanted(spec, files):
        files |= {path: _text(FOLDER / name / path) for path in wanted}
    try:
        definition.read(spec, files, code_tree(FOLDER / name).hashed.entries)
    except BadDefinition as error:
        return [str(one) for one in error.problems]
    return []


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def told(name: str) -> Iterator[str]:
    yield from by_the_cli(name)
    yield from (f"in the cluster: {line}" for line in in_the_cluster(name))


@pytest.mark.parametrize("name", names())
def test_a_broken_definition_is_told_with_line_and_fix(name: str) -> None:
    assert SAID[name] == list(told(name))
    assert by_the_cli(name)
    assert all(
        line.startswith(("env.yaml:", "requirements.txt:", "conda.y", "Dockerfile", "docker/Dockerfile:"))
        for line in by_the_cli(name)
    )
    assert all("; " in line for line in told(name))


@pytest.mark.parametrize("name", [name for name in names() if not name.startswith("azure-")])
def test_what_the_cli_refuses_the_cluster_refuses_in_the_same_field(name: str) -> None:
    assert in_the_cluster(name)


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("secret-in")])
def test_a_secret_is_not_repeated(name: str) -> None:
    said = "\n".join(told(name))

    assert not any(secret in said for secret in ("hunter2", "tk-1234", "ghp_"))


def test_there_are_enough_of_them() -> None:
    assert len(names()) >= 25
    assert sorted(SAID) == names()


if __name__ == "__main__":
    GOLDEN.write_text("".join(f"== {name}\n" + "".join(f"{line}\n" for line in told(name)) for name in names()))
