"""This machine, as far as it decides which packages serve."""

import hashlib
import os
import platform
import sys
from collections.abc import Sequence


def name(wants_conda: bool, python: str, folders: Sequence[str] = ()) -> str:
    """What a lock holds for: the system, the processor, for a venv the Python that it is made of, and folders of packages.

    python: what is asked of it, empty for the one that runs stoker.
    """
    parts = [sys.platform, platform.machine().lower()]
    if not wants_conda:
        # Another minor version has other wheels; another Python of the same version would lend its modules to the venv.
        parts += [sys.implementation.name, python or os.path.realpath(sys.base_prefix), _minor()]
    return " ".join([*parts, *folders])


def short(machine: str) -> str:
    """8 hex digits of a machine's name, for a file's name."""
    return hashlib.sha256(machine.encode()).hexdigest()[:8]


def _minor() -> str:
    return ".".join(platform.python_version_tuple()[:2])
