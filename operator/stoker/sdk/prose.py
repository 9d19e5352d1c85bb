"""Words for people: the line of a phase, sizes, counts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stoker.sdk.prepare import Tree

_DIM, _BOLD, _GREEN, _RED, _YELLOW, _OFF = "\033[2m", "\033[1m", "\033[32m", "\033[31m", "\033[33m", "\033[0m"
_COLOURS = {
    "Completed": _GREEN, "Failed": _RED, "Canceled": _YELLOW, "done": _BOLD, "run": _BOLD,
}  # fmt: skip


def step_line(label: str, what: str, detail: str = "", seconds: float | None = None, *, colour: bool = False) -> str:
    """The text of one phase."""
    time = "" if seconds is None else f"{seconds:.1f} s"
    line = f"  {label:<11} {what:<27}" + (f" {detail:<31}" if detail or time else "") + (f" {time:>7}" if time else "")
    line = line.rstrip()
    if colour:
        code = _COLOURS.get(label, "")
        line = line.replace(label, f"{code or _DIM}{label}{_OFF}", 1)
    return line


def human_bytes(count: float) -> str:
    """62 KB, 1.4 GB."""
    from stoker.runtime.layout import human_bytes as said

    return said(count).replace(" bytes", " B")


def plural(count: int, word: str) -> str:
    """`1 file`, `14 files`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def tree_words(tree: "Tree") -> str:
    """`14 files, 62 KB`."""
    return f"{plural(len(tree.listing.files), 'file')}, {human_bytes(tree.listing.total_bytes)}"
