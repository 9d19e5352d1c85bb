"""What a .dockerignore keeps out of the context. The last pattern that matches decides; `!` takes a path back in."""

import re
from collections.abc import Sequence
from posixpath import normpath

NAME = ".dockerignore"


class Ignored:
    def __init__(self, text: str = "") -> None:
        self._patterns = tuple(_patterns(text))

    def __call__(self, path: str) -> bool:
        """Whether a path of the context (without a leading slash) is left out, by itself or by a folder above it."""
        out = False
        parts = path.split("/")
        places = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        for pattern, takes_back in self._patterns:
            if any(pattern.fullmatch(place) for place in places):
                out = not takes_back
        return out


def _patterns(text: str) -> Sequence[tuple[re.Pattern[str], bool]]:
    found = []
    for line in text.splitlines():
        word = line.strip()
        if not word or line.startswith("#"):
            continue
        takes_back = word.startswith("!")
        cleaned = normpath(word.removeprefix("!").strip()).lstrip("/")
        if cleaned not in (".", ""):
            found.append((re.compile(regex(cleaned)), takes_back))
    return found


def regex(pattern: str) -> str:
    """A pattern as Go's filepath.Match reads it, with `**` for any number of folders, as a regular expression."""
    out, position = "", 0
    while position < len(pattern):
        letter = pattern[position]
        if pattern.startswith("**/", position):
            out, position = out + "(?:.*/)?", position + 3
        elif pattern.startswith("**", position):
            out, position = out + ".*", position + 2
        elif letter == "*":
            out, position = out + "[^/]*", position + 1
        elif letter == "?":
            out, position = out + "[^/]", position + 1
        elif letter == "[" and (end := pattern.find("]", position + 2)) > 0:
            group = pattern[position + 1 : end]
            out, position = out + "[" + group.replace("\\", "\\\\").replace("[", "\\["), end + 1
            out += "]"
        elif letter == "\\" and position + 1 < len(pattern):
            out, position = out + re.escape(pattern[position + 1]), position + 2
        else:
            out, position = out + re.escape(letter), position + 1
    return out
