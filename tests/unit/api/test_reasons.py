"""Every reason that the code gives is explained, and what is explained is given."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from stoker.api import reasons

_SOURCE = Path(reasons.__file__).parents[1]
_LAYERS = ("core", "controller", "images", "nodepools", "runtime", "storage", "local")
_WORD = re.compile(r"[A-Z][a-z0-9]+([A-Z]+[a-z0-9]*)*\Z")
#: What carries a reason to where people see it, in its first argument or in `reason=`.
_CARRIERS = {"Wait", "Why", "Diagnosis", "FetchFailed", "Refused", "Unavailable", "Failure", "BuildResult"}
#: Words of HTTP, S3 and Kubernetes that answers to programs carry; no run or pool shows them.
_OF_PROGRAMS = {
    "AccessDenied", "ApiServerUnavailable", "BadDigest", "BadKey", "BadPath", "CommandFailed", "NotFound", "Running", "Stopped",
}  # fmt: skip

#: What core/trainingjob/lacking.py makes of a kind and what is missing.
_COMPOSED = {f"{kind}{what}" for kind in ("Secret", "ConfigMap") for what in ("NotFound", "KeyNotFound")}


def _given() -> Iterator[tuple[str, str]]:
    """(reason, file) for each that the code hands to a carrier as a word, or as a constant that is one."""
    trees = {path: ast.parse(path.read_text()) for layer in _LAYERS for path in (_SOURCE / layer).rglob("*.py")}
    constants = {
        target.id: node.value.value
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            told = [one.value for one in node.keywords if one.arg == "reason"]
            for one in [*(node.args[:1] if name in _CARRIERS else ()), *told]:
                word = one.value if isinstance(one, ast.Constant) else None
                if isinstance(one, ast.Name | ast.Attribute):
                    word = constants.get(one.id if isinstance(one, ast.Name) else one.attr)
                if isinstance(word, str) and _WORD.match(word):
                    yield word, str(path.relative_to(_SOURCE))


def test_every_reason_of_the_code_is_explained() -> None:
    unexplained = {word: where for word, where in _given() if word not in reasons.ENTRIES and word not in _OF_PROGRAMS}

    assert {} == unexplained


def test_what_is_explained_stands_in_the_code() -> None:
    known = {
        word
        for path in _SOURCE.rglob("*.py")
        if path != Path(reasons.__file__)
        for word in re.findall(r"\w+", path.read_text())
    }

    assert set() == reasons.ENTRIES.keys() - known - _COMPOSED


def test_a_reason_is_explained_once() -> None:
    assert len(reasons.ENTRIES) == sum(len(section.entries) for section in reasons.SECTIONS)
