"""Placeholders become texts, and what names nothing is told with the fix."""

import pytest

from stoker.core import command


def test_placeholders_become_texts_and_the_shell_keeps_its_own() -> None:
    text = command.resolve(
        "train --lr ${{inputs.lr}} --data '${{ inputs.data }}' > ${{outputs.model}}/log; echo $HOME $(date) ${X}",
        {"lr": "0.1", "data": "/stoker/inputs/data"},
        {"model": "/out"},
    )

    assert text == "train --lr 0.1 --data '/stoker/inputs/data' > /out/log; echo $HOME $(date) ${X}"


def test_a_literal_that_looks_like_a_placeholder_is_not_replaced_again() -> None:
    assert command.resolve("${{inputs.a}}", {"a": "${{inputs.b}}", "b": "x"}, {}) == "${{inputs.b}}"


@pytest.mark.parametrize(
    ("text", "says", "fix"),
    [
        ("${{inputs.learn}}", "names no declared input (declared: data, lr)", "declare it under spec.inputs"),
        ("${{inputs.dat}}", "names no declared input", "did you mean data?"),
        ("${{outputs.x}}", "names no declared output (declared: none)", "declare it under spec.outputs"),
        ("${{inputs.lr }} ${{search.lr}}", "${{search.lr}} is not a placeholder", "write ${{inputs.NAME}}"),
    ],
)
def test_what_names_nothing_is_told(text: str, says: str, fix: str) -> None:
    (problem,) = command.problems(text, ["lr", "data"], [])

    assert says in problem.message
    assert problem.fix.startswith(fix)
    assert problem.field == "spec.command.command"


def test_a_good_command_has_no_problems() -> None:
    assert command.problems("a ${{inputs.lr}} $x", ["lr"], []) == ()
