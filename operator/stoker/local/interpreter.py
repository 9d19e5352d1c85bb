"""A Python that a local command runs with."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Interpreter:
    """A Python to run with. folders: go first on PATH. words: what the plan says of it. variables: of the environment it
    belongs to (VIRTUAL_ENV, CONDA_PREFIX), empty for none."""

    python: Path
    folders: tuple[Path, ...]
    words: str
    variables: Mapping[str, str] = field(default_factory=dict)


def this_python() -> Interpreter:
    """The Python that runs stoker."""
    python = Path(sys.executable)
    return Interpreter(python, (python.parent,), f"this Python {platform.python_version()}")
