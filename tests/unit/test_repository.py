"""Rules of the repository that no linter knows."""

import subprocess
import sys
from pathlib import Path


def test_operator_is_no_package(repository: Path) -> None:
    """An `operator/__init__.py` would shadow the standard library's `operator` for everything run from the checkout."""
    assert not (repository / "operator" / "__init__.py").exists()
    told = subprocess.run(
        [sys.executable, "-c", "import operator; print(operator.add(1, 2), operator.__file__)"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.startswith("3 ")
    assert str(repository) not in told


def test_every_decision_record_is_numbered_once(repository: Path) -> None:
    numbers = [path.name[:4] for path in (repository / "docs" / "decisions").glob("[0-9]*.md")]

    assert len(set(numbers)) == len(numbers) > 0
