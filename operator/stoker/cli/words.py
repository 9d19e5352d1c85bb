"""What a reason means: `stoker why WORD`, and the line below a reason that points there."""

import re
from typing import Any

from stoker.api import reasons
from stoker.errors import BadInput, did_you_mean

_PAGE = "docs/troubleshooting.md"
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def is_word(argument: str) -> bool:
    """Whether an argument is a reason and no run: names of runs have no capitals."""
    return argument[:1].isupper() and argument.isalnum()


def explained(word: str) -> dict[str, Any]:
    """{"reason", "meaning", "fix", "page"} of a reason. Raises BadInput for a word that is none."""
    entry = reasons.entry(word)
    if entry is None:
        raise BadInput(
            "RUN", f'"{word}" is no run and no reason of Stoker\'s', did_you_mean(word, list(reasons.ENTRIES))
        )
    meaning, fix = (_plain(text) for text in entry)
    return {"reason": word, "meaning": meaning, "fix": fix, "page": f"{_PAGE}#{word.lower()}"}


def show(told: dict[str, Any]) -> None:
    """Print an entry for people."""
    print(f"{told['reason']}\n{told['meaning']}\nfix: {told['fix']}\nmore: {told['page']}")


def pointer(reason: str) -> str:
    """Where a reason is explained; empty for a word that is not ours."""
    return f"{_PAGE}#{reason.lower()}, or: stoker why {reason}" if reasons.entry(reason) else ""


def _plain(text: str) -> str:
    """Markdown's links as text: `[here](page.md)` becomes `here (docs/page.md)`."""
    return _LINK.sub(r"\1 (docs/\2)", text)
