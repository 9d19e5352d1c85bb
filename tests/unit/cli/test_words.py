"""`stoker why REASON`."""

import json

import pytest

from stoker.cli.app import run


def test_why_explains_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["why", "GangLargerThanPool", "-o", "json"])

    told = json.loads(capsys.readouterr().out)
    assert {"reason", "meaning", "fix", "page"} == set(told)
    assert "docs/troubleshooting.md#ganglargerthanpool" == told["page"]


def test_a_link_is_a_path_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(["why", "BaseImageUnauthorized"])

    assert "registries (docs/how-to/registry.md)" in capsys.readouterr().out


def test_why_refuses_a_word_that_is_no_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == run(["why", "PoolFul"])

    assert "did you mean PoolFull?" in capsys.readouterr().err
