"""The grammar of a Dockerfile: lines, continuations, comments and heredocs, as BuildKit's parser has them."""

import re
from dataclasses import dataclass

from stoker.core.environment.problems import Place, Problem

KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip

_CONTINUED = re.compile(r"(?:^|(?<=[^\\]))\\[ \t]*\Z")
_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(\S.*?)[ \t]*\Z")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)\Z")
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")
#: Whose words may have any number of blanks between them. The shell's and lists in JSON are left as they are.
_WORDS = ("ADD", "ARG", "COPY", "EXPOSE", "STOPSIGNAL", "USER")
_ASSIGNMENT = re.compile(r"[^\s=]+=")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """name: what ends it. body: its lines as written, each with its line feed. literal: no variable is replaced in it."""

    name: str
    body: str
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction. keyword: upper case. flags: `--mount=...` and the like as (name, value), in order. rest: what
    follows them, in one line. line: where it starts in its text, from 1."""

    keyword: str
    flags: tuple[tuple[str, str], ...]
    rest: str
    heredocs: tuple[Heredoc, ...] = ()
    line: int = 0

    @property
    def text(self) -> str:
        """The canonical text: it reads as this step again."""
        flags = [f"--{name}={value}" if value else f"--{name}" for name, value in self.flags]
        head = " ".join((self.keyword, *flags, self.rest))
        return head + "".join(f"\n{heredoc.body}{heredoc.name}" for heredoc in self.heredocs)

    def values(self, flag: str) -> list[str]:
        """The values of a flag, which may be there several times."""
        return [value for name, value in self.flags if name == flag]


def parse(text: str, place: Place, *, whole_file: bool = True) -> tuple[list[Step], list[Problem]]:
    """The instructions of a text, and what could not be read.

    whole_file: the text begins a Dockerfile, so that its first comments may be directives (`# syntax=`), which are refused:
    an instruction must mean the same wherever it is read.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    problems = list(_directives(lines, place)) if whole_file else []
    steps: list[Step] = []
    at = 0
    while at < len(lines):
        start = at
        joined, at = _logical(lines, at)
        if joined.strip():
            step, at, found = _instruction(joined.strip(), lines, start, at, place)
            steps += [step] if step else []
            problems += found
    return steps, problems


def words(text: str) -> list[str]:
    """A text at its blanks, where they are neither quoted nor escaped; quotes and backslashes stay."""
    found, word, quote, at = [], "", "", 0
    while at < len(text):
        character = text[at]
        if character == "\\" and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        if character in " \t\v\f" and not quote:
            found += [word] if word else []
            word = ""
        else:
            word += character
        at += 1
    return found + ([word] if word else [])


def unquoted(word: str) -> str:
    """A word without its quotes and escapes."""
    out, quote, at = "", "", 0
    while at < len(word):
        character = word[at]
        if character == "\\" and quote != "'" and at + 1 < len(word):
            at += 1
            out += word[at] if not quote or word[at] in '"\\$' else "\\" + word[at]
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            out += character
        at += 1
    return out


def _directives(lines: list[str], place: Place) -> list[Problem]:
    problems = []
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line)
        if match is None:
            break
        if match[1].lower() == "syntax":
            message = f"`# syntax={match[2]}` names a frontend from outside, which is not run"
            problems.append(place.on(number).problem(message, "remove the line: heredocs and mounts work without it"))
        elif match[1].lower() == "escape":
            fix = "remove the line and continue lines with a backslash"
            problems.append(place.on(number).problem("`# escape=` changes what lines mean", fix))
    return problems


def _logical(lines: list[str], at: int) -> tuple[str, int]:
    """A line with its continuations, and where the next one starts. Comments and empty lines inside are left out."""
    if lines[at].lstrip().startswith("#"):
        return "", at + 1
    line = lines[at].lstrip()
    joined, at = _CONTINUED.sub("", line), at + 1
    continued = joined != line
    while continued and at < len(lines):
        line, at = lines[at], at + 1
        if line.strip() and not line.lstrip().startswith("#"):
            part = _CONTINUED.sub("", line)
            joined, continued = joined + part, part != line
    return joined, at


def _instruction(
    joined: str, lines: list[str], start: int, at: int, place: Place
) -> tuple[Step | None, int, list[Problem]]:
    here = place.on(start + 1)
    word, _, rest = joined.replace("\t", " ", 1).partition(" ") if re.match(r"\S+\t", joined) else joined.partition(" ")
    keyword = word.upper()
    if keyword not in KEYWORDS:
        fix = "write an instruction of a Dockerfile, such as RUN, COPY or ENV; continue a line with a backslash"
        return None, at, [here.problem(f"{word[:40]!r} is not an instruction", fix)]
    flags, rest = _flags(rest.strip())
    if not rest:
        return None, at, [here.problem(f"{keyword} has nothing after it", f"write what {keyword} is to do")]
    heredocs: list[Heredoc] = []
    if keyword in _WITH_HEREDOCS and "<<" in rest:
        for name, strips_tabs, literal in _heredocs_of(rest):
            body, end = _body(lines, at, name, strips_tabs)
            if end is None:
                message = f"the heredoc <<{name} does not end"
                return None, len(lines), [here.problem(message, f"write {name} alone on the line after its last")]
            heredocs.append(Heredoc(name, body, literal))
            at = end
    return Step(keyword, flags, _blanks(keyword, rest), tuple(heredocs), start + 1), at, []


def _flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags: list[tuple[str, str]] = []
    while (match := re.match(r"--([a-z][a-z-]*)(?:=(\"[^\"]*\"|\S*))?(?:[ \t]+|\Z)", rest)) is not None:
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return tuple(flags), rest.strip()


def _heredocs_of(rest: str) -> list[tuple[str, bool, bool]]:
    found = []
    for word in words(rest):
        match = _HEREDOC.match(word)
        if match is not None and (name := unquoted(match[2])):
            found.append((name, match[1] == "-", name != match[2]))
    return found


def _body(lines: list[str], at: int, name: str, strips_tabs: bool) -> tuple[str, int | None]:
    body = ""
    for number in range(at, len(lines)):
        line = lines[number]
        if (line.lstrip("\t") if strips_tabs else line) == name:
            return body, number + 1
        body += line + "\n"
    return body, None


def _blanks(keyword: str, rest: str) -> str:
    if rest.startswith("["):
        return rest
    if keyword in _WORDS or (keyword in ("ENV", "LABEL") and _ASSIGNMENT.match(rest)):
        return " ".join(words(rest))
    return rest
