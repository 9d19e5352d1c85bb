"""What a definition wants of this machine, and the lock that fixes it."""

import os
import platform
from pathlib import Path

import pytest

from stoker.errors import BadInput
from stoker.local.environments import cache, lock, machine
from stoker.local.environments.cache import Place
from stoker.local.environments.lock import LocalLock, Pin
from stoker.local.environments.prepare import find, this_python_serves
from stoker.local.environments.solve import flags, lines, pip_pins
from stoker.local.environments.wanted import Wanted, python_fits, python_request
from stoker.local.interpreter import this_python

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def a_lock(**changes: object) -> LocalLock:
    return LocalLock(**{"definition_key": KEY, "machine": "linux x86_64", "python": "/usr/bin/python3", **changes})


# -- Wanted.


@pytest.mark.parametrize(
    ("conda", "needed"),
    [
        ((), False),
        (("python 3.11.*",), False),
        (("pip", "python >=3.9,<3.13"), False),
        (("python=3.11", "pip 24.0"), False),
        (("numpy",), True),
        (("python 3.11.* *_cpython",), True),
        (("python=3.11=0_cpython",), True),
        (("conda-forge::python",), True),
        (("python-dateutil",), True),
    ],
)
def test_conda_is_asked_for_more_than_a_version_of_python(conda: tuple[str, ...], needed: bool) -> None:
    assert needed is Wanted(KEY, conda=conda).needs_conda


@pytest.mark.parametrize(
    ("conda", "clause"),
    [((), ""), (("pip",), ""), (("python 3.11.*",), "3.11.*"), (("pip", "python >=3.9,<3.13"), ">=3.9,<3.13")],
)
def test_the_python_that_a_conda_part_names(conda: tuple[str, ...], clause: str) -> None:
    assert clause == Wanted(KEY, conda=conda).python


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ("", True),
        ("=3", True),
        ("3.*", True),
        (">=3.8", True),
        ("=2.7", False),
        ("<3", False),
        (f"=={platform.python_version()}", True),
    ],
)
def test_what_a_conda_file_says_of_python(wanted: str, fits: bool) -> None:
    assert fits is python_fits(wanted)


def test_a_version_that_is_none_is_named() -> None:
    with pytest.raises(BadInput, match=r"python=3\.11"):
        python_fits("~3")


@pytest.mark.parametrize(
    ("clause", "request_"), [("=3.11", "3.11"), ("3.11.*", "3.11"), (">=3.9,<3.12", ">=3.9,<3.12")]
)
def test_uv_is_asked_in_its_own_words(clause: str, request_: str) -> None:
    assert request_ == python_request(clause)


# -- This Python serves.


@pytest.mark.parametrize(
    "wanted", [Wanted(KEY), Wanted(KEY, pip=("msgspec>=0.1",)), Wanted(system=True, pip=("no-such",))]
)
def test_this_python_serves_when_it_has_what_is_needed(wanted: Wanted) -> None:
    found = find(wanted)

    assert found is not None
    assert (this_python(), "system", "") == (found.interpreter, found.source, found.lock_key)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(KEY, pip=("no-such-package",)),
        Wanted(KEY, pip=("msgspec>=999",)),
        Wanted(KEY, conda=("python 2.7.*",)),
        Wanted(KEY, conda=("msgspec",)),
        Wanted(KEY, pip=("msgspec --hash=sha256:00",)),
        Wanted(KEY, pip=("msgspec",), constraints=("msgspec<0.1",)),
    ],
)
def test_this_python_does_not_serve_for_the_rest(wanted: Wanted) -> None:
    assert not this_python_serves(wanted)
    assert find(wanted) is None


# -- The lock.


@pytest.mark.parametrize(
    "other",
    [
        a_lock(requirements="a==1 --hash=sha256:00\n"),
        a_lock(machine="darwin arm64"),
        a_lock(python="/usr/bin/python3.12"),
        a_lock(packages=(Pin(kind="conda", name="a", version="1", build="0", sha256="00"),)),
    ],
)
def test_what_is_in_an_environment_changes_its_key(other: LocalLock) -> None:
    assert a_lock().key != other.key


@pytest.mark.parametrize("other", [a_lock(refresh="today"), a_lock(solved_at="2026-01-01T00:00:00Z")])
def test_when_it_was_solved_does_not(other: LocalLock) -> None:
    assert a_lock().key == other.key


def test_a_lock_is_read_as_it_was_written() -> None:
    written = a_lock(packages=(Pin(kind="pypi", name="a", version="1"),), requirements="a==1\n", refresh="x")

    assert written == lock.decode(lock.encode(written))


@pytest.mark.parametrize("content", [b"", b"{}", lock.encode(a_lock(version=2))])
def test_another_versions_lock_is_no_lock(content: bytes) -> None:
    with pytest.raises(lock.LockUnreadable):
        lock.decode(content)


def test_pins_are_read_from_requirements() -> None:
    text = "Scikit_Learn==1.5 --hash=sha256:00\nextra[all]==2.0 ; python_version > '3'\nown @ https://host/own-1.whl\n"

    assert [("extra", "2.0"), ("own", "https://host/own-1.whl"), ("scikit-learn", "1.5")] == [
        (pin.name, pin.version) for pin in pip_pins(text)
    ]


def test_options_that_are_flags_of_uv_leave_the_file() -> None:
    options = ("--pre", "--index-url https://host/simple")

    assert (["--prerelease", "allow"], ["--index-url https://host/simple"]) == (flags(options), lines(options))


# -- The cache.


def test_each_machine_has_its_own_lock() -> None:
    here, there = Place(KEY, "linux x86_64"), Place(KEY, "darwin arm64")
    here.write(a_lock())

    assert a_lock() == here.read()
    assert there.read() is None


def test_an_environment_is_whole_once_it_is_marked_and_while_its_python_is_there(tmp_path: Path) -> None:
    environment, python = tmp_path / "made", tmp_path / "python"
    (environment / "bin").mkdir(parents=True)
    python.touch()
    cache.python_in(environment).symlink_to(python)
    seen = [cache.is_whole(environment)]
    cache.complete(environment, a_lock())
    seen.append(cache.is_whole(environment))
    python.unlink()
    seen.append(cache.is_whole(environment))

    assert [False, True, False] == seen


def test_an_environment_in_use_is_not_idle(tmp_path: Path) -> None:
    environment = tmp_path / "made"
    with cache.in_use(environment), cache.in_use(environment):
        inside = cache.is_idle(environment)

    assert (False, True) == (inside, cache.is_idle(environment))


def test_what_is_removed_was_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be removed to its end has another name by then."""
    environment = tmp_path / "made"
    environment.mkdir()
    cache.complete(environment, a_lock())

    def fails(_: object) -> None:
        raise OSError("busy")

    monkeypatch.setattr(cache.shutil, "rmtree", fails)
    with pytest.raises(OSError, match="busy"):
        cache.remove(environment)

    assert not environment.exists()


def test_a_venv_belongs_to_the_python_it_is_made_of() -> None:
    assert os.path.realpath(machine.sys.base_prefix) in machine.name(False, "")
    assert machine.name(True, "") == machine.name(True, "3.12")
    assert machine.name(False, "") != machine.name(False, "3.12")
