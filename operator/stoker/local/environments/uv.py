"""Running uv, with nothing of the user's project but with the user's own settings of indexes and mirrors (UV_*)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stoker.errors import StokerError


class PackagesNotInstalled(StokerError):
    """The environment could not be made; the message has the words of uv or of the solver."""


def program() -> str:
    """uv's executable; raises PackagesNotInstalled where there is none."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        if found := shutil.which("uv"):
            return found
    raise PackagesNotInstalled("environment: packages are missing and uv is not installed; pip install uv")


def run(arguments: Sequence[str], work: Path, doing: str, *, shows: bool = False) -> str:
    """Run uv in `work` and return what it prints. doing: completes "uv could not …". shows: let a person on a terminal
    see its progress. Raises PackagesNotInstalled with its words."""
    shows = shows and sys.stderr.isatty()
    # VIRTUAL_ENV and CONDA_PREFIX of the user's shell are other environments than ours.
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    done = subprocess.run(
        # A uv.toml or pyproject.toml of the user's project is not meant for this: `work` is a folder of our own.
        [program(), *arguments], cwd=work, env=environment, stdin=subprocess.DEVNULL, check=False, text=True,
        encoding="utf-8", errors="replace", stdout=subprocess.PIPE, stderr=None if shows else subprocess.PIPE,
    )  # fmt: skip
    if done.returncode:
        words = (done.stderr or "").strip()
        raise PackagesNotInstalled(
            f"environment: uv could not {doing} (exit {done.returncode}); check names, versions and the index"
            + (f":\n{words}" if words else "")
        )
    return done.stdout
