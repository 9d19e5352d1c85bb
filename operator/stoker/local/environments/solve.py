"""From what is wanted to a lock: conda's packages by rattler, pip's by uv, with what conda brings taken as it is."""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.local.environments import uv
from stoker.local.environments.lock import LocalLock, Pin
from stoker.local.environments.wanted import Wanted, python_fits, python_request, this_version

if TYPE_CHECKING:
    from rattler import RepoDataRecord

Say = Callable[[str], None]
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:===?\s*([^\s;]+)|@\s*(\S+))")
_HASH = re.compile(r"\s--hash[= ](\S+)")


def solve(wanted: Wanted, machine: str, say: Say) -> LocalLock:
    """The packages that meet what is wanted here, now. Raises PackagesNotInstalled with the solver's words."""
    solved_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory(prefix="stoker-solve-") as folder:
        if not wanted.needs_conda:
            python = _interpreter(wanted.python, Path(folder), say)
            requirements = compile_pip(wanted, ["--python", python], (), Path(folder))
            return LocalLock(
                definition_key=wanted.key, machine=machine, refresh=wanted.refresh, python=python,
                packages=pip_pins(requirements), requirements=requirements, solved_at=solved_at,
            )  # fmt: skip
        from stoker.local.environments import conda

        records = _with_python(wanted, say)
        pins = conda.pins(records)
        version = next((pin.version for pin in pins if pin.name == "python"), "")
        requirements = ""
        if wanted.pip:
            asked = ["--python", os.path.realpath(sys.executable), "--python-version", version]
            requirements = compile_pip(wanted, asked, conda.distributions(records), Path(folder))
    return LocalLock(
        definition_key=wanted.key, machine=machine, refresh=wanted.refresh, python=version,
        packages=(*pins, *pip_pins(requirements)), conda=conda.locked(records, wanted.channels),
        requirements=requirements, solved_at=solved_at,
    )  # fmt: skip


def _with_python(wanted: Wanted, say: Say) -> "list[RepoDataRecord]":
    """Conda's packages, and among them a Python when pip has something to install into it."""
    from stoker.local.environments import conda

    say(f"solving conda packages: {', '.join(wanted.conda)}")
    records = conda.solve(wanted.channels, wanted.conda)
    if not wanted.pip or any(one.name.normalized == "python" for one in records):
        return records
    return conda.solve(wanted.channels, [*wanted.conda, f"python {this_version()}.*"])


def _interpreter(clause: str, work: Path, say: Say) -> str:
    """The Python that a venv is made of: the one that runs stoker where it fits, else one that uv finds or fetches."""
    if python_fits(clause):
        return os.path.realpath(sys.executable)
    request = python_request(clause)
    find = ["python", "find", "--system", "--no-project", request]
    try:
        return uv.run(find, work, f"find python {request}").strip()
    except uv.PackagesNotInstalled:
        say(f"fetching python {request} with uv")
    uv.run(["python", "install", request], work, f"install python {request}", shows=True)
    return uv.run(find, work, f"find python {request}").strip()


def compile_pip(wanted: Wanted, python: Sequence[str], conda: Sequence[Pin], work: Path) -> str:
    """Requirements with every version and hash pinned, one a line, sorted; empty for none.

    conda: distributions that are installed already. pip would keep it where it fits, so it is preferred here, and left out of the list.
    """
    if not wanted.pip:
        return ""
    asked, limits, pinned = work / "requirements.in", work / "constraints.txt", work / "requirements.txt"
    asked.write_text("\n".join([*lines(wanted.options), *wanted.pip]) + "\n", encoding="utf-8")
    limits.write_text("\n".join(wanted.constraints) + "\n", encoding="utf-8")
    # What stands in the file already is what uv prefers.
    pinned.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in conda), encoding="utf-8")
    uv.run(
        ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes", *flags(wanted.options), *python,
         "--constraint", str(limits), "-o", str(pinned), str(asked)],
        work, "solve the pip packages",
    )  # fmt: skip
    installed = {(_normal(pin.name), pin.version) for pin in conda}
    given = {match[1]: _HASH.findall(line) for line in wanted.pip if (match := _NAME.match(line)) and "--hash" in line}
    given = {_normal(name): hashes for name, hashes in given.items()}
    kept = []
    for line in _logical_lines(pinned.read_text(encoding="utf-8")):
        pin = _pin(line)
        if pin is None or (pin.name, pin.version) in installed:
            continue
        kept.append(_with_hashes(line, given[pin.name]) if pin.name in given else line)
    return "".join(f"{line}\n" for line in sorted(kept))


_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def _with_hashes(line: str, hashes: Sequence[str]) -> str:
    """The requirement with these hashes alone: who names them trusts no other file."""
    return " ".join([_HASH.sub("", line).strip(), *(f"--hash={one}" for one in sorted(hashes))])


def _logical_lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        if (bare := " ".join(line.split())) and not bare.startswith("#"):
            yield bare


def pip_pins(requirements: str) -> tuple[Pin, ...]:
    """What a list of pinned requirements names."""
    found = (_pin(line) for line in requirements.splitlines())
    return tuple(sorted((pin for pin in found if pin is not None), key=lambda pin: pin.name))


def _pin(line: str) -> Pin | None:
    match = _PINNED.match(line)
    return Pin(kind="pypi", name=_normal(match[1]), version=match[2] or match[3]) if match else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


#: What uv takes on its command line alone.
_FLAGS = {"--pre": ["--prerelease", "allow"], "--prefer-binary": []}


def flags(options: Sequence[str]) -> list[str]:
    """The options of a requirements file that are flags of uv."""
    return [word for line in options for word in _FLAGS.get(line.strip(), [])]


def lines(options: Sequence[str]) -> list[str]:
    """The options of a requirements file that uv reads there."""
    return [line for line in options if line.strip() not in _FLAGS]
