"""One venv for lists that mean the same, another one for lists that do not."""

import platform

import pytest

from stoker.errors import BadInput
from stoker.local.interpreter import Needs, choose, key, python_fits, this_python
from stoker.local.run import verdict


@pytest.mark.parametrize(
    "other",
    [
        Needs(("Scikit_Learn >= 1", "numpy")),
        Needs(("numpy", "scikit-learn>=1")),
    ],
)
def test_order_and_spelling_do_not_count(other: Needs) -> None:
    assert key(Needs(("numpy", "scikit-learn>=1"))) == key(other)


@pytest.mark.parametrize(
    "other",
    [
        Needs(("numpy", "scikit-learn>=2")),
        Needs(("numpy",)),
        Needs(("numpy", "scikit-learn>=1"), python="3.10"),
        Needs(("numpy", "scikit-learn>=1"), ("--index-url https://other/simple",)),
    ],
)
def test_what_changes_the_packages_changes_the_key(other: Needs) -> None:
    assert key(Needs(("numpy", "scikit-learn>=1"))) != key(other)


def test_credentials_of_an_index_do_not_count() -> None:
    keys = {key(Needs(("a",), (f"--index-url https://{who}host/simple",))) for who in ("", "me:secret@", "you:other@")}

    assert 1 == len(keys)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ("", True),
        ("=3", True),
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


@pytest.mark.parametrize("needs", [Needs(), Needs(("msgspec>=0.1",)), Needs(("no-such-package",), system=True)])
def test_this_python_serves_when_it_has_what_is_needed(needs: Needs) -> None:
    assert this_python() == choose(needs)


@pytest.mark.parametrize("needs", [Needs(("no-such-package",)), Needs(("msgspec>=999",)), Needs(python="=2.7")])
def test_a_venv_is_made_for_the_rest(needs: Needs) -> None:
    assert choose(needs) is None


def seal(code: int | None, complete: bool = True, reason: str | None = None, tail: str = "") -> dict[str, object]:
    return {
        "complete": complete,
        "message": "disk full",
        "exit": {"code": code, "reason": reason, "message": "", "logTail": tail},
    }


@pytest.mark.parametrize(
    ("seals", "cancelled", "expected"),
    [
        ([seal(0)], False, ("Completed", "Completed", 0)),
        ([seal(3, tail="boom")], False, ("Failed", "CommandFailed", 3)),
        ([seal(0), seal(4)], False, ("Failed", "CommandFailed", 4)),
        ([seal(143, reason="TimedOut")], False, ("Failed", "TimedOut", 143)),
        ([seal(0, complete=False)], False, ("Failed", "OutputsNotSaved", 0)),
        ([seal(None, reason="PackagesNotInImage")], False, ("Failed", "PackagesNotInImage", None)),
        ([None], False, ("Failed", "CommandFailed", None)),
        ([seal(130)], True, ("Canceled", "Canceled", 130)),
    ],
)
def test_how_a_run_ended_is_read_from_its_seals(seals: list, cancelled: bool, expected: tuple[str, str, int]) -> None:
    phase, reason, _, code = verdict(seals, cancelled)

    assert expected == (phase, reason, code)


def test_a_failure_shows_the_last_lines_of_the_log() -> None:
    assert "exit code 3\nboom" in verdict([seal(3, tail="boom\n")], False)[2]
