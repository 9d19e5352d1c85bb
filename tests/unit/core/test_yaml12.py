"""Job files mean what they say: YAML 1.2's booleans and numbers, as written."""

from typing import Any

import pytest

from stoker.core.yaml12 import MAX_VALUES, parse, text_of
from stoker.errors import BadInput


def value_of(text: str) -> Any:
    return parse(f"v: {text}\n", "job.yaml")[0].value["v"]


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "N", "1:30", "2026-01-02", "0b1", "1_000"])
def test_words_of_yaml_1_1_are_text(word: str) -> None:
    assert word == value_of(word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("False", False),
        ("~", None),
        ("12", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        (".5", 0.5),
    ],
)
def test_core_schema(text: str, expected: object) -> None:
    assert expected == value_of(text)


@pytest.mark.parametrize("text", ["0.10", "1e-3", "007", "-0"])
def test_a_number_reaches_the_command_as_written(text: str) -> None:
    assert text == text_of(value_of(text))


def test_quoted_and_tagged_scalars_stay_text() -> None:
    assert ("5", "5", "true") == (value_of("'5'"), value_of("!!str 5"), value_of('"true"'))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "job.yaml:3:1: a: stands twice, first on line 1"),
        ("a: {b: 1, b: 2}\n", "job.yaml:1:11: a.b: stands twice"),
        ("a: [1\n", "not valid YAML"),
        ("a: \0\n", "not valid YAML"),
        ("a: &x [*x]\n", "contains itself"),
        ("a: !!python/object:os.path {}\n", "not plain data"),
        ("a: !!binary aGk=\n", "not plain data"),
        ("? [a]\n: 1\n", "a key that is a list"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(text, "job.yaml")

    assert words in str(refused.value)


def test_aliases_within_aliases_stop_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

    with pytest.raises(BadInput) as refused:
        parse("\n".join(lines), "job.yaml")

    assert str(MAX_VALUES) in str(refused.value)
