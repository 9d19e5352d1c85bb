"""Ignore rules decide as git does."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from stoker.storage.ignore import Decision, Rules
from tests.support.trees import tree


def ignored(text: str, path: str) -> bool:
    return Rules.parse(text, ".gitignore").decide(path.rstrip("/"), path.endswith("/")).ignored


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("*.bin\n!keep.bin", "keep.bin", False),  # the last match decides, not the first
        ("!keep.bin\n*.bin", "keep.bin", True),
        ("*.log", "deep/down/x.log", True),
        ("/x.log", "deep/x.log", False),
        ("deep/x.log", "a/deep/x.log", False),
        ("**/deep/x.log", "a/b/deep/x.log", True),
        ("**/deep/x.log", "deep/x.log", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a/", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a\n!/*", "b/a", True),
        ("a**b", "axxb", True),
        ("/a**b", "ax/xb", False),
        ("build/", "build", False),  # a file of a folder's name
        ("build/", "build/", True),
        ("build/", "src/build/x", True),
        ("data\n!data/keep", "data/keep", True),  # below an ignored folder nothing comes back
        ("data/*\n!data/keep", "data/keep", False),
        ("*\n!*/\n!*.py", "a/b/c.py", False),
        ("[a-c].txt", "b.txt", True),
        ("[!a-c].txt", "b.txt", False),
        ("[^a-c].txt", "d.txt", True),
        ("[]a]x", "]x", True),
        ("[[:digit:]]x", "7x", True),
        ("[z-a]x", "bx", False),
        ("[a", "[a", False),  # malformed: matches nothing
        ("a[/]b", "a/b", False),
        ("?", "a", True),
        ("a?b", "a/b", False),
        ("trailing  ", "trailing", True),
        ("trailing\\ ", "trailing ", True),
        ("\\#x", "#x", True),
        ("#x", "#x", False),
        ("\\!x", "!x", True),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("x\\", "x\\", False),
        ("a\r\nb\r\n", "a", True),
        ("\ufeffa", "a", True),
        ("", "a", False),
        ("/", "a/", False),
        ("!", "a", False),
        ("Makefile", "makefile", False),  # letters differ by case on every system
        ("*.PY", "a.py", False),
        ("é*", "était", True),
    ],
)
def test_a_path_is_ignored_as_gitignore_says(text: str, path: str, expected: bool) -> None:
    assert expected == ignored(text, path)


def test_a_decision_names_the_line_and_where_it_stands() -> None:
    rules = Rules.parse("# notes\n\n*.log\n!keep.log \n", ".amlignore")

    assert Decision(True, "*.log", ".amlignore:3") == rules.decide("x/y.log", False)
    assert Decision(False, "!keep.log", ".amlignore:4") == rules.decide("keep.log", False)
    assert Decision(False) == rules.decide("main.py", False)


def test_a_file_below_an_ignored_folder_names_the_folders_line() -> None:
    rules = Rules.parse("data/\n!data/keep.csv\n", ".gitignore")

    assert Decision(True, "data/", ".gitignore:1") == rules.decide("data/keep.csv", False)


def test_later_rules_win() -> None:
    rules = Rules.parse("*.csv", ".gitignore").then(Rules.parse("!keep.csv", "--ignore"))

    assert not rules.decide("keep.csv", False).ignored
    assert rules.decide("other.csv", False).ignored


@pytest.mark.parametrize("pattern", ["*a" * 30 + "b", "**/" + "*a*" * 20 + "b", "a/" + "[ab]*" * 25 + "c"])
def test_many_stars_do_not_take_for_ever(pattern: str) -> None:
    rules, path = Rules.parse(pattern, "x"), "a/" + "a" * 200
    start = time.process_time()

    assert not rules.decide(path, False).ignored
    assert time.process_time() - start < 0.5


# --- the oracle ---------------------------------------------------------------------------------------------------

_GIT = shutil.which("git")
NAMES = [
    "a",
    "b",
    "ab",
    "abc",
    "a.b",
    "b.txt",
    "A",
    "é",
    " a",
    "a ",
    "[",
    "]",
    "!",
    "#x",
    "a-b",
    "-",
    "^",
    "\\",
    "*",
    "?",
    "7",
]
PIECES = [
    *["a", "b", "c", "ab", ".", "txt", "A", "é", " ", "-", "7", "x", "#", "!", "^", "]"],
    *[
        "*",
        "*",
        "**",
        "***",
        "?",
        "/",
        "/",
        "/",
        "**/",
        "/**",
        "/**/",
        "\\",
        "\\*",
        "\\?",
        "\\[",
        "\\ ",
        "\\!",
        "\\#",
        "\\/",
    ],
    *[
        "[ab]",
        "[a-c]",
        "[!a]",
        "[^ab]",
        "[]a]",
        "[!]a]",
        "[a-]",
        "[-a]",
        "[\\]a]",
        "[a\\-c]",
        "[[:alpha:]]",
        "[![:digit:]]",
        "[[:nope:]]",
    ],
    *["[", "[a", "[[:alpha:]", "[a/b]", "[c-a]", "[*]", "[?]", "[[:]", "[[a]", "[\\", "[a-\\c]"],
]

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
lines = st.builds(
    lambda bang, parts, slash, spaces: bang + "".join(parts) + slash + spaces,
    st.sampled_from(["", "", "", "!"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6),
    st.sampled_from(["", "", "/"]),
    st.sampled_from(["", "", "", " ", "  ", "\r", "\t"]),
)
named_lines = st.builds(
    lambda bang, lead, path, tail: bang + lead + path + tail,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/", "**/", "*/"]),
    paths,
    st.sampled_from(["", "/", "/*", "/**", "*"]),
)
ignore_texts = st.lists(st.one_of(lines, named_lines), min_size=1, max_size=8).map("\n".join)

#: Where newer gits differ from gitignore(5): they cut off a pattern's literal start and take the `**` after it for one
#: at a pattern's start. The page says: "other consecutive asterisks are considered regular asterisks".
_GITS_OWN = re.compile(r"[^*?\[\\]*[^/*?\[\\]\*\*+(/|\\/|\s*$)")


def git_says(root: Path, asked: list[str]) -> dict[str, tuple[bool, str]]:
    """For each path: whether git ignores it, and the pattern that decided."""
    assert _GIT is not None
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    if not (root / ".git").exists():
        subprocess.run([_GIT, "init", "-q", "--template="], cwd=root, env=environment, check=True)
    answer = subprocess.run(
        [_GIT, "check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"],
        cwd=root, env=environment, input=b"\0".join(path.encode() for path in asked) + b"\0", capture_output=True, check=False,
    )  # fmt: skip
    assert answer.returncode in (0, 1), answer.stderr
    fields = answer.stdout.decode().split("\0")[:-1]
    found = {}
    for at in range(0, len(fields), 4):
        _, _, pattern, path = fields[at : at + 4]
        found[path] = (bool(pattern) and not pattern.startswith("!"), pattern)
    return found


def everything_below(root: Path) -> list[str]:
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name != ".git"]
        base = Path(folder).relative_to(root).as_posix()
        found += [name if base == "." else f"{base}/{name}" for name in [*names, *files]]
    return sorted(found)


@pytest.fixture(scope="module")
def repository_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One git repository with files and folders of every name that the patterns speak of."""
    root = tmp_path_factory.mktemp("oracle")
    files = {}
    for first in NAMES:
        files[f"{first}/{first}"] = ""
        for second in ("a", "b", "ab", "é", "[", "a "):
            files[f"{first}/d{second}/{second}"] = ""
            files[f"{first}/{second}.d/c/{first}"] = ""
    for name in ("x", "c", "ac", "aab", "a.txt", "txt", "dé", "ax", "7a", "a]b", "a/ab/b", "a/b/c", "ab/a/b/c"):
        files.setdefault(name if "/" in name else f"{name}.f", "")
        if "/" not in name:
            files[name] = ""
    return tree(root, files)


@pytest.mark.skipif(_GIT is None, reason="the oracle is git")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ignore_texts)
@example(text="a\n!/*")
@example(text="*\n!*/\n!/a/\n")
def test_decisions_are_gits(repository_folder: Path, text: str) -> None:
    assume(not any(_GITS_OWN.match(line) and "/" in line.rstrip("/") for line in text.split("\n")))
    (repository_folder / ".gitignore").write_bytes(text.encode())
    asked = everything_below(repository_folder)
    rules = Rules.parse(text, ".gitignore")

    theirs = git_says(repository_folder, asked)
    ours = {path: rules.decide(path, (repository_folder / path).is_dir()) for path in asked}

    assert {path: said for path, (said, _) in theirs.items()} == {path: one.ignored for path, one in ours.items()}
    assert {path: line for path, (_, line) in theirs.items()} == {path: one.line or "" for path, one in ours.items()}
