"""Versions and requirements, with no `packaging` at hand; checked against it where a rule is subtle."""

import importlib.metadata
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from stoker.runtime import packages
from stoker.runtime.packages import missing, satisfies

versions = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "1!"]),
    st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts))),
    st.sampled_from(["", "", "a1", "b2", "rc1", "-alpha.1"]),
    st.sampled_from(["", "", ".post1", "-2"]),
    st.sampled_from(["", "", "", ".dev3"]),
)
clauses = st.builds("{}{}".format, st.sampled_from(["==", "!=", "<", ">", "<=", ">="]), versions)
prefixes = st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), st.sampled_from(["1", "1.0", "2.3", "0.0.1"]))
compatible = st.builds(
    "~={}".format, versions.filter(lambda text: "." in text.split("!")[-1].split("a")[0].split("-")[0])
)


@given(versions, st.one_of(clauses, prefixes))
def test_clauses_mean_what_pep_440_says(installed: str, clause: str) -> None:
    expected = SpecifierSet(clause).contains(installed, prereleases=True)

    assert expected == satisfies(installed, clause)


@pytest.mark.parametrize(
    ("installed", "clause", "expected"),
    [
        ("1.4.5", "~=1.4.2", True), ("1.5", "~=1.4.2", False), ("1.9", "~=1.4", True), ("2.0", "~=1.4", False),
        ("1.4.1", "~=1.4.2", False), ("1.4.2.post1", "~=1.4.2", True), ("2.1.0+cu121", "==2.1.0", True),
        ("2.1.0+cu121", "==2.1.0+cu121", True), ("2.1.0", "==2.1.0+cu121", False), ("2.1.0+cu121", ">=2.1,<3", True),
        ("1.0", ">=1.0 , <2", True), ("1.0", "", True), ("odd", "===odd", True), ("odd", ">=1", False),
        ("1.10", ">1.9", True), ("3.0rc1", ">=2", True), ("2.0rc1", "<2.0", False),
        ("3.0.3.post1", ">3.0.3a1", True), ("3.0.3a1.post1", ">3.0.3a1", False), ("1.0.post1", ">1.0", False),
        ("1.0.post1.dev3", "<1.0.post1", False), ("1.0", "<1.0.post1", True),
    ],
)  # fmt: skip
def test_the_usual_clauses(installed: str, clause: str, expected: bool) -> None:
    assert expected == satisfies(installed, clause)


@pytest.mark.parametrize("clause", [">=", "1.0", "~=1", ">=1.*", "=>1", "== one"])
def test_a_clause_that_cannot_be_read_is_an_error(clause: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        satisfies("1.0", clause)


@pytest.mark.parametrize(
    "requirement",
    [
        "pytest", "PyTest >= 8", "pytest[dev]>=8,<999", "pytest (>=8)", "# a comment", "",
        'no-such-thing; python_version < "3.8"', 'no-such-thing>1 ; sys_platform == "win32" and os_name == "nt"',
        "pytest  # why", "pytest @ https://example.com/pytest.whl",
    ],
)  # fmt: skip
def test_what_is_there_is_not_missing(requirement: str) -> None:
    assert missing([requirement]) == []


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("no-such-thing", "no-such-thing"),
        ("no-such-thing>=2", "no-such-thing>=2"),
        ('no-such-thing; python_version >= "3.8"', "no-such-thing"),
        ("pytest<1", f"the image has {importlib.metadata.version('pytest')}"),
        ("pytest>=latest", "not a version"),
        ("-r more.txt", "cannot be checked"),
        ("./wheels/x.whl", "cannot be checked"),
    ],
)
def test_what_is_missing_is_named(requirement: str, words: str) -> None:
    (problem,) = missing([requirement])

    assert words in problem


def test_the_check_prints_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    packages.main([json.dumps(["pytest", "no-such-thing"])])

    assert json.loads(capsys.readouterr().out) == ["no-such-thing"]
