"""Which files of a folder stay at home: the rules of gitignore, for one file of patterns. No I/O.

The rules are those of gitignore(5), the matching that of git's wildmatch, on UTF-8 bytes as git does it: the last
pattern that matches decides, and what lies below an ignored folder cannot be brought back. Letters differ by case on
every system, so that one folder gives one snapshot everywhere.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

_SPECIAL = frozenset(b"*?[\\")
_Matcher = Callable[[bytes], object]

#: POSIX classes as C's locale has them, which is what git uses.
_CLASSES: dict[bytes, bytes] = {
    b"alpha": bytes(c for c in range(128) if chr(c).isalpha()),
    b"digit": b"0123456789",
    b"alnum": bytes(c for c in range(128) if chr(c).isalnum()),
    b"upper": bytes(range(65, 91)),
    b"lower": bytes(range(97, 123)),
    b"space": b" \t\n\v\f\r",
    b"blank": b" \t",
    b"punct": bytes(c for c in range(33, 127) if not chr(c).isalnum()),
    b"print": bytes(range(32, 127)),
    b"graph": bytes(range(33, 127)),
    b"cntrl": bytes([*range(32), 127]),
    b"xdigit": b"0123456789abcdefABCDEF",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a path stays at home. line: the pattern that decided (None: none matched). source: `<file>:<line
    number>` of that pattern."""

    ignored: bool
    line: str | None = None
    source: str | None = None


NOT_IGNORED = Decision(False)


@dataclass(frozen=True)
class _Pattern:
    line: str
    source: str
    negated: bool
    folders_only: bool
    whole_path: bool  # else only the last part of the path is looked at
    matches: _Matcher

    @cached_property
    def decision(self) -> Decision:
        return Decision(not self.negated, self.line, self.source)


@dataclass(frozen=True)
class Rules:
    """The patterns of one file, and of what was given beside it, in order."""

    patterns: tuple[_Pattern, ...] = ()

    @classmethod
    def parse(cls, text: str, source: str) -> "Rules":
        """The rules in the text of an ignore file. source: the file's name, as decisions shall give it. Any text is
        accepted: a pattern that git takes for malformed matches nothing."""
        raw = text.removeprefix("\ufeff").encode("utf-8", "surrogateescape")
        found = []
        for number, line in enumerate(raw.split(b"\n"), start=1):
            if (pattern := _parse_line(line, f"{source}:{number}")) is not None:
                found.append(pattern)
        return cls(tuple(found))

    def then(self, later: "Rules") -> "Rules":
        """These rules with others after them, which win."""
        return Rules(self.patterns + later.patterns)

    def decide(self, path: str, is_dir: bool) -> Decision:
        """What happens to a path (relative to the folder of the rules, `/` between parts). Looks at its folders too."""
        parts = path.strip("/").split("/")
        for end in range(1, len(parts)):
            decision = self.decide_below("/".join(parts[:end]), True)
            if decision.ignored:
                return decision
        return self.decide_below("/".join(parts), is_dir)

    def decide_below(self, path: str, is_dir: bool) -> Decision:
        """The same for a path of which the caller knows that no folder above it is ignored."""
        whole = path.encode("utf-8", "surrogateescape")
        name = whole[whole.rfind(b"/") + 1 :]
        for pattern in self._last_first:
            if pattern.folders_only and not is_dir:
                continue
            if pattern.matches(whole if pattern.whole_path else name):
                return pattern.decision
        return NOT_IGNORED

    @cached_property
    def _last_first(self) -> Sequence[_Pattern]:
        return self.patterns[::-1]


def _parse_line(line: bytes, source: str) -> _Pattern | None:
    if line.startswith(b"#"):
        return None
    line = _without_trailing_spaces(line.removesuffix(b"\r").partition(b"\0")[0])
    text = line.decode("utf-8", "surrogateescape")
    negated = line.startswith(b"!")
    pattern = line[1:] if negated else line
    folders_only = pattern.endswith(b"/")
    if folders_only:
        pattern = pattern[:-1]
    whole_path = b"/" in pattern
    if whole_path and pattern.startswith(b"/"):
        pattern = pattern[1:]
    if not pattern:
        return None
    matches = _matcher(pattern, whole_path)
    return None if matches is None else _Pattern(text, source, negated, folders_only, whole_path, matches)


def _without_trailing_spaces(line: bytes) -> bytes:
    """Spaces at the end do not count unless a backslash stands before them."""
    end = position = 0
    while position < len(line):
        if line[position] == 0x5C:
            if position + 1 == len(line):
                return line
            position += 1
            end = position + 1
        elif line[position] != 0x20:
            end = position + 1
        position += 1
    return line[:end]


def _matcher(pattern: bytes, whole_path: bool) -> _Matcher | None:
    """What tells whether a text matches the pattern; None: nothing ever does."""
    if not _SPECIAL.intersection(pattern):
        return pattern.__eq__
    if not whole_path and pattern.startswith(b"*") and not _SPECIAL.intersection(pattern[1:]):
        suffix = pattern[1:]
        return lambda text: text.endswith(suffix)
    expression = _expression(pattern)
    return None if expression is None else re.compile(expression, re.DOTALL).fullmatch


#: A piece of a pattern: a star within a part of the path, something one byte wide, or an expression that may cross `/`.
_STAR, _ONE, _OTHER = range(3)
_Piece = tuple[int, bytes]


def _expression(pattern: bytes) -> bytes | None:
    """The regular expression that says what wildmatch does with WM_PATHNAME; None for a malformed pattern."""
    pieces = _pieces(pattern)
    if pieces is None:
        return None
    chunks: list[bytes] = []
    position = 0
    while position < len(pieces):
        kind, chunk = pieces[position]
        position += 1
        if kind != _STAR:
            chunks.append(chunk)
            continue
        start = position
        while position < len(pieces) and pieces[position][0] == _ONE:
            position += 1
        fixed = b"".join(chunk for _, chunk in pieces[start:position])
        if position < len(pieces) and pieces[position][0] == _STAR:
            # The first place that fits is as good as any later one, as another star follows: never look back.
            chunks.append(b"(?>[^/]*?" + fixed + b")")
        else:
            chunks.append(b"[^/]*" + fixed)
    return b"".join(chunks)


def _pieces(pattern: bytes) -> list[_Piece] | None:
    pieces: list[_Piece] = []
    position = 0
    while position < len(pattern):
        character = pattern[position : position + 1]
        if character == b"*":
            piece, position = _stars(pattern, position)
        elif character == b"?":
            piece, position = (_ONE, b"[^/]"), position + 1
        elif character == b"[":
            parsed = _bracket(pattern, position + 1)
            if parsed is None:
                return None
            piece, position = (_ONE, parsed[0]), parsed[1]
        else:
            position += character == b"\\"
            if position == len(pattern):
                return None
            literal = pattern[position : position + 1]
            piece, position = (_OTHER if literal == b"/" else _ONE, re.escape(literal)), position + 1
        pieces.append(piece)
    return pieces


def _stars(pattern: bytes, start: int) -> tuple[_Piece, int]:
    """A run of stars: two or more that fill a whole part of the path match across `/`, all others within a part."""
    end = start
    while pattern[end : end + 1] == b"*":
        end += 1
    after = pattern[end:]
    fills_a_part = (start == 0 or pattern[start - 1] == 0x2F) and (not after or after.startswith((b"/", b"\\/")))
    if end - start == 1 or not fills_a_part:
        return (_STAR, b""), end
    if after.startswith(b"/"):
        return (_OTHER, b"(?:.*/)?"), end + 1
    return (_OTHER, b".*"), end


def _bracket(pattern: bytes, position: int) -> tuple[bytes, int] | None:
    """A `[...]` whose first character is at `position`; and where it ends. None if it is malformed.

    Read as wildmatch reads it: `]` as the first character is itself, a range may be backwards (and is then empty),
    `[:class:]` is a POSIX class, and a `/` is never matched.
    """
    negated = pattern[position : position + 1] in (b"!", b"^")
    start = position = position + negated
    members: set[int] = set()
    previous: int | None = None  # what a range would start from
    while position == start or pattern[position : position + 1] != b"]":
        member = _member(pattern, position, previous)
        if member is None:
            return None
        added, previous, position = member
        members.update(added)
    members = (set(range(1, 256)) - members) if negated else members
    members -= {0x2F, 0}
    if not members:
        return b"(?!)", position + 1
    return b"[" + b"".join(b"\\x%02x" % member for member in sorted(members)) + b"]", position + 1


def _member(pattern: bytes, position: int, previous: int | None) -> tuple[Iterable[int], int | None, int] | None:
    """One member of a `[...]`: the bytes it stands for, what a range after it would start from, where it ends."""
    character = pattern[position : position + 1]
    if character == b"-" and previous is not None and pattern[position + 1 : position + 2] not in (b"", b"]"):
        position += 1 + (pattern[position + 1] == 0x5C)
        if position >= len(pattern):
            return None
        return range(previous, pattern[position] + 1), None, position + 1
    if character == b"[" and pattern[position + 1 : position + 2] == b":":
        close = pattern.find(b"]", position + 2)
        if close < 0:
            return None
        if close >= position + 3 and pattern[close - 1] == 0x3A:
            named = _CLASSES.get(pattern[position + 2 : close - 1])
            return None if named is None else (named, None, close + 1)
    position += character == b"\\"
    if position >= len(pattern):
        return None
    return (pattern[position],), pattern[position], position + 1
