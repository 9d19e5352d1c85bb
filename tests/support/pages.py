"""The project's pages and the code blocks in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Rendered from code, and checked where that is done.
GENERATED = ("docs/reference/", "docs/azure.md")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*) *$")
#: What may stand where a person's own text goes.
_PLACEHOLDER = "…"


@dataclass(frozen=True)
class Block:
    """A fenced block. page: relative to the repository; line: of its fence, from 1."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that people write by hand."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(page for page in found if not str(page.relative_to(ROOT)).startswith(GENERATED))


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order. Raises ValueError for one without an end."""
    name, begun, language, indent = str(page.relative_to(ROOT)), 0, "", 0
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence and not begun:
            begun, language, indent, lines = number, fence["language"], len(fence["indent"]), []
        elif fence and not fence["language"]:
            yield Block(name, begun, language, "\n".join(lines) + "\n")
            begun = 0
        elif begun:
            lines.append(line[indent:] if line[:indent].isspace() else line)
    if begun:
        raise ValueError(f"{name}:{begun}: a block that does not end")


def commands(block: Block, *programs: str) -> Iterator[list[str]]:
    """The words of each command line in a block that calls one of these programs, also by a path or behind a pipe.

    A block with prompts (`$ `) shows what is printed too: then only its prompted lines are commands.
    """
    text = block.text.replace("\\\n", " ")
    prompted = any(line.startswith("$ ") for line in text.splitlines())
    for line in text.splitlines():
        if prompted and not line.startswith("$ "):
            continue
        for part in _parts(line.removeprefix("$ ")):
            words = [word for word in part if word]
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words and words[0].rpartition("/")[2] in programs:
                yield [words[0].rpartition("/")[2], *words[1:]]


def _parts(line: str) -> Iterator[list[str]]:
    """The commands of a line, split at pipes, `&&`, `;` and `&`. A figure that is no shell at all has none."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    part: list[str] = []
    try:
        for word in lexer:
            if word and set(word) <= set("|&;()"):
                yield part
                part = []
            else:
                part.append(word)
    except ValueError:
        return
    yield part
