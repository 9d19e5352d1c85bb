"""The folder that docker steps copy from: its digest, from the listing of the code's snapshot."""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Sequence

import rfc8785

from stoker.runtime.wire import Entry


def below(entries: Iterable[Entry], folder: str) -> tuple[Entry, ...]:
    """The entries inside a folder of the code (empty: its root), by paths relative to it."""
    front = f"{folder}/" if folder else ""
    return tuple(
        entry._replace(path=entry.path.removeprefix(front)) for entry in entries if entry.path.startswith(front)
    )


def context_digest(entries: Sequence[Entry]) -> str:
    """`sha256:<hex>` of paths, exec bits and contents; times, owners and the order of the listing have no part in it."""
    listing = sorted([entry.path, _mode(entry), entry.sha256] for entry in entries)
    return "sha256:" + hashlib.sha256(b"env-context/v1\n" + rfc8785.dumps(listing)).hexdigest()


def _mode(entry: Entry) -> str:
    # A link's sha256 is that of its target's text: without its kind it would equal a file with that text.
    return "link" if entry.is_link else "executable" if entry.executable else "file"


def holds(entries: Iterable[Entry], source: str) -> bool:
    """Whether a path, or something that a pattern fits, is in a context. A source with a variable may be anything; one that
    leaves the context is told elsewhere."""
    path = posixpath.normpath(source.lstrip("/") or ".")
    if path == "." or "$" in source or ".." in source.split("/"):
        return True
    pattern = re.compile(_as_pattern(path) + r"(/|\Z)")
    return any(pattern.match(entry.path) for entry in entries)


def _as_pattern(path: str) -> str:
    """A regular expression for a path with Go's wild cards: `*` and `?` within a part, `[a-z]`."""
    out, at = "", 0
    while at < len(path):
        character = path[at]
        end = path.find("]", at + 1) if character == "[" else -1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif end > at + 1:
            out += "[" + path[at + 1 : end].replace("\\", "\\\\") + "]"
            at = end
        else:
            out += re.escape(character)
        at += 1
    return out
