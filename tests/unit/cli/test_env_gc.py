"""Which namespaces a registry belongs to: what any of them needs stays."""

from typing import Any

import pytest

from stoker.sdk.cleaning import sharers

URL = "registry.example.com/ml/team"
READS = {"globalRegistries": [{"url": "registry.example.com/curated"}, {"url": URL + "/"}]}


@pytest.mark.parametrize(
    ("workspaces", "expected"),
    [
        ({}, []),
        ({"team": {"registry": {"url": URL}}}, []),
        (
            {"team": {}, "a": {"registry": {"url": URL + "/"}}, "b": READS, "c": {"registry": {"url": "x/y"}}},
            ["a", "b"],
        ),
        ({"a": {"registry": {"url": URL + "-two"}}}, []),
    ],
)
def test_who_pushes_to_a_registry_or_runs_its_images_shares_it(workspaces: Any, expected: list[str]) -> None:
    assert expected == sharers(URL, workspaces, "team", "registry.example.com/ml")


def test_whose_name_a_default_registry_has_shares_it_unless_it_has_another() -> None:
    mine = {"mine": {"registry": {"url": URL}}}

    assert ["team"] == sharers(URL, mine, "mine", "registry.example.com/ml/")
    assert [] == sharers(URL, {**mine, "team": {"registry": {"url": "x/y"}}}, "mine", "registry.example.com/ml")
    assert [] == sharers(URL, mine, "mine", "")
