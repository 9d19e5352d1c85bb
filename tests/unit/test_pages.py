"""What the pages show is what the product takes: commands, manifests, chart values, links."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from stoker.api.resources import kinds
from stoker.api.validate import problems
from stoker.cli.app import cli
from tests.support.pages import ROOT, Block, blocks, commands, pages

BLOCKS = [block for page in pages() for block in blocks(page)]
_SHELL = [block for block in BLOCKS if block.language in ("", "sh", "console")]


def _of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


@pytest.mark.parametrize("block", _SHELL, ids=str)
def test_a_command_of_stoker_on_a_page_exists_with_its_flags(block: Block) -> None:
    for _, *words in commands(block, "stoker"):
        _parse(cli, "stoker", words)


def _parse(command: click.Command, name: str, words: list[str], parent: click.Context | None = None) -> None:
    """Read a command line as click does, and run nothing; raises click's own error for a flag that is not there."""
    try:
        context = command.make_context(name, list(words), parent=parent)
    except click.exceptions.Exit:
        return  # --help and --version end here
    except click.BadParameter as error:
        if error.param is not None and isinstance(error.param.type, click.Path | click.File):
            return  # a file of the reader's own
        raise
    if isinstance(command, click.Group) and context._protected_args:
        found, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        _parse(inner, str(found), rest, context)


@pytest.mark.parametrize("block", _SHELL, ids=str)
def test_a_target_of_make_on_a_page_exists(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = {word for _, *words in commands(block, "make") for word in words if re.fullmatch(r"[a-z-]+", word)}

    assert set() == named - targets


@pytest.mark.parametrize("block", _SHELL, ids=str)
def test_a_value_of_the_chart_on_a_page_exists(block: Block) -> None:
    values = yaml.safe_load((ROOT / "charts" / "stoker" / "values.yaml").read_text())
    for _, *words in commands(block, "helm"):
        for before, word in itertools.pairwise(words):
            if before == "--set" and "charts/stoker" in words:
                assert _has(values, word.partition("=")[0].split(".")), word


def _has(values: Any, path: list[str]) -> bool:
    for member in path:
        if not isinstance(values, dict) or member not in values:
            return values == {}  # a map of the user's own names
        values = values[member]
    return True


@pytest.mark.parametrize("block", _of("yaml"), ids=str)
def test_a_manifest_on_a_page_is_one_that_the_cluster_takes(block: Block) -> None:
    for document in yaml.safe_load_all(block.text):
        if not isinstance(document, dict):
            continue
        if str(document.get("apiVersion", "")).startswith("stoker.dev/"):
            assert [] == [str(one) for one in problems(document["kind"], document)]
        elif document.keys() <= {"spec", "metadata", "status"}:
            told = {kind.kind: _unknown(kind.kind, document) for kind in kinds()}
            assert [] in told.values(), f"a part of no kind of Stoker's: {told}"


def _unknown(kind: str, part: dict[str, Any]) -> list[str]:
    """Fields in a part of a manifest that the kind does not have."""
    whole = {"apiVersion": "stoker.dev/v1alpha1", "kind": kind, "metadata": {"name": "default"}, **part}
    return [str(one) for one in problems(kind, whole) if "unknown" in one.message or "no field" in one.message]


@pytest.mark.parametrize("block", _of("json"), ids=str)
def test_json_on_a_page_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", _of("python"), ids=str)
def test_python_on_a_page_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_on_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.finditer(text):
        target, _, anchor = link["target"].partition("#")
        if ":" in target:
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{page.name}: {link['target']}"
        if anchor and place.suffix == ".md":
            assert anchor in _anchors(place), f"{page.name}: {link['target']}"


def _anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
