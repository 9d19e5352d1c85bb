"""Which Python runs a local command: the one that runs stoker when it has the packages, else a cached venv made by uv."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.errors import BadInput, StokerError
from stoker.local.locks import try_lock

Say = Callable[[str], None]


class PackagesNotInstalled(StokerError):
    """uv could not make the venv; the message has its words."""


@dataclass(frozen=True)
class Needs:
    """What a command needs of its Python. pip: PEP 508 requirements. options: lines of a requirements file that say where
    packages come from. python: version clause or prefix (`3.11`, `>=3.10`), empty for any. system: take the Python that
    runs stoker, whatever it has."""

    pip: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    python: str = ""
    system: bool = False


@dataclass(frozen=True)
class Interpreter:
    """A Python to run with. folder: goes first on PATH. venv: its root, or None. words: what the plan says of it."""

    python: Path
    folder: Path
    words: str
    venv: Path | None = None


def this_python() -> Interpreter:
    """The Python that runs stoker."""
    python = Path(sys.executable)
    return Interpreter(python, python.parent, f"this Python {platform.python_version()}")


def choose(needs: Needs) -> Interpreter | None:
    """The interpreter that meets the needs without installing anything; None when a venv has to be made."""
    from stoker.runtime import packages

    if needs.system:
        return this_python()
    if python_fits(needs.python) and not packages.missing(list(needs.pip)):
        return this_python()
    venv = _place(needs)
    return _interpreter(venv, needs) if (venv / "pyvenv.cfg").exists() else None


def prepare(needs: Needs, say: Say, *, quiet: bool = False) -> Interpreter:
    """The interpreter that meets the needs; makes a venv in the user's cache when there is none. say: takes one line of
    progress. Raises PackagesNotInstalled and BadInput."""
    if found := choose(needs):
        return found
    place = _place(needs)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(place.with_suffix(".lock"), say):
        if not (place / "pyvenv.cfg").exists():
            _build(needs, place, say, quiet)
    return _interpreter(place, needs)


def python_fits(wanted: str) -> bool:
    """Whether the Python that runs stoker is what a conda file asks for (`=3.11`, `3.11.*`, `>=3.10`)."""
    text = wanted.strip()
    if not text:
        return True
    have = platform.python_version()
    if re.fullmatch(r"={0,2}\d+(\.\d+)*(\.\*)?", text):
        prefix = text.lstrip("=").removesuffix(".*")
        return (have + ".").startswith(prefix + ".")
    from stoker.runtime import packages

    try:
        return packages.satisfies(have, text)
    except ValueError:
        raise BadInput("dependencies", f"python{wanted} is not a version", "write such as python=3.11") from None


def key(needs: Needs) -> str:
    """32 hex digits of everything that decides what a venv holds; the order and spelling of the list do not."""
    told = {
        "version": 1,
        "python": needs.python or ".".join(platform.python_version_tuple()[:2]),
        "base": "" if needs.python else os.path.realpath(sys.base_prefix),
        "platform": [sys.platform, platform.machine(), sys.implementation.name],
        "pip": sorted(canonical(line) for line in needs.pip),
        # Credentials in an index's URL neither make another environment nor belong into anything we write.
        "options": [re.sub(r"//[^/@\s]+@", "//", line) for line in needs.options],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def canonical(line: str) -> str:
    """One spelling for requirements that mean the same: `Scikit_Learn >= 1` and `scikit-learn>=1`."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        found = Requirement(line)
    except InvalidRequirement as error:
        raise BadInput("environment", f"{line!r} is not a package ({error})", "write name==1.2") from None
    found.name = canonicalize_name(found.name)
    return str(found)


def cache_folder() -> Path:
    """Where the venvs lie: `stoker/venvs` in the user's cache directory."""
    from stoker.storage.hashing import cache_folder as snapshots

    return snapshots().parent / "venvs"


def _place(needs: Needs) -> Path:
    return cache_folder() / key(needs)


def _python_in(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def _interpreter(venv: Path, needs: Needs) -> Interpreter:
    python = _python_in(venv)
    with contextlib.suppress(OSError):
        os.utime(venv)  # when it was last used: what a cleaner of the cache goes by
    count = len(needs.pip)
    return Interpreter(python, python.parent, f"cached venv {venv.name[:8]}, {count} package{'s' * (count != 1)}", venv)


def _build(needs: Needs, place: Path, say: Say, quiet: bool) -> None:
    uv = _uv()
    work = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    try:
        say(f"installing {', '.join(needs.pip) or 'python' + needs.python} with uv")
        # A folder of its own as current directory: a uv.toml or pyproject.toml of the user's project is not meant for this.
        venv = work / "venv"
        python = _request(needs.python) or os.path.realpath(sys.executable)
        _run([uv, "venv", "--relocatable", "--no-project", "--python", python, str(venv)], work, quiet=True)
        if needs.pip:
            listed = work / "requirements.txt"
            listed.write_text("\n".join([*needs.options, *needs.pip]) + "\n", encoding="utf-8")
            # Hard links into uv's cache are its default and keep a venv small; its files are never written by us.
            _run([uv, "pip", "install", "--python", str(_python_in(venv)), "-r", str(listed)], work, quiet=quiet)
        os.replace(venv, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _request(wanted: str) -> str:
    """What a conda file says of Python, as uv reads it."""
    text = wanted.strip()
    return text.lstrip("=").removesuffix(".*") if re.fullmatch(r"={0,2}\d+(\.\d+)*(\.\*)?", text) else text


def _uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        if found := shutil.which("uv"):
            return found
    raise PackagesNotInstalled("environment: packages are missing and uv is not installed; pip install uv")


def _run(command: Sequence[str], work: Path, *, quiet: bool) -> None:
    shows = not quiet and sys.stderr.isatty()
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    done = subprocess.run(
        command, cwd=work, env=environment, stdin=subprocess.DEVNULL, check=False, text=True, encoding="utf-8", errors="replace",
        stdout=subprocess.DEVNULL, stderr=None if shows else subprocess.PIPE,
    )  # fmt: skip
    if done.returncode:
        words = (done.stderr or "").strip()
        raise PackagesNotInstalled(
            f"environment: uv could not install the packages (exit {done.returncode}); check names, versions and the index"
            + (f":\n{words}" if words else "")
        )


@contextlib.contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    """Held by one process at a time; the system frees it when its holder dies."""
    with path.open("a+b") as file:
        if not try_lock(file.fileno(), wait=False):
            say("another stoker installs the same packages: waiting for it")
            try_lock(file.fileno(), wait=True)
        yield
