"""The words of a Dockerfile instruction: quotes, escapes and variables, as BuildKit's Dockerfile frontend reads them.

What it knows beyond this (patterns in variables, such as `${name#prefix}`) is left to it: see `stepplace.needs_buildkit`.
"""

import json
import re
from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: `${` and a name, then what may follow here: the end, `:-` or `:+`, or `-` or `+`.
_BRACED = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?!\}|:?[-+])")


class BadStep(ValueError):
    """A docker step cannot be read; the message shows it and says what is expected."""


def has_patterns(text: str) -> bool:
    """Whether variables are used in a way that only BuildKit's own frontend knows."""
    return _BRACED.search(text) is not None


def split_flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """The leading `--name=value` words of an instruction (an empty value where there is none), and what follows them."""
    flags: list[tuple[str, str]] = []
    while match := re.match(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)", rest):
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return tuple(flags), rest


def json_words(rest: str) -> tuple[str, ...] | None:
    """The words of an instruction in JSON form, None if it is not in that form (then it is in shell form)."""
    if not rest.startswith("["):
        return None
    try:
        found = json.loads(rest)
    except ValueError:
        return None
    return tuple(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else None


def split(text: str) -> tuple[str, ...]:
    """Words parted by blanks, with quotes and escapes still in them, so that a quoted blank parts nothing."""
    words: list[str] = []
    word, quote, position = "", "", 0
    while position < len(text):
        letter = text[position]
        if letter == "\\" and quote != "'" and position + 1 < len(text):
            word += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter.isspace():
            if word:
                words.append(word)
            word, position = "", position + 1
            continue
        word += letter
        position += 1
    if quote:
        raise _bad(text, f"the quote {quote} is never closed")
    return (*words, word) if word else tuple(words)


def pairs(rest: str) -> Iterator[tuple[str, str]]:
    """The `name=value` words of ENV and LABEL, values not expanded yet; also the old form `name value with blanks`."""
    words = split(rest)
    if words and "=" not in words[0]:
        name, _, value = rest.strip().partition(" ")
        if not value.strip():
            raise _bad(rest, "a name needs a value: write name=value")
        yield name, value.strip()
        return
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise _bad(rest, f"{word} has no value: write name=value for each")
        yield name, value


def expand(word: str, variables: Mapping[str, str]) -> str:
    """A word without its quotes and escapes, with variables replaced; an unknown variable is empty, as in a shell.

    Raises BadStep for a quote or a brace that is never closed.
    """
    out, position = "", 0
    while position < len(word):
        letter = word[position]
        if letter == "'":
            end = word.find("'", position + 1)
            if end < 0:
                raise _bad(word, "the quote ' is never closed")
            out, position = out + word[position + 1 : end], end + 1
        elif letter == '"':
            text, position = _quoted(word, position + 1, variables)
            out += text
        elif letter == "\\":
            # The last character may be a lone backslash: it is one.
            out += word[position + 1] if position + 1 < len(word) else letter
            position += 2
        elif letter == "$":
            text, position = _variable(word, position + 1, variables)
            out += text
        else:
            out, position = out + letter, position + 1
    return out


def _quoted(word: str, position: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """What stands between double quotes, and where it goes on. Only `\\"`, `\\$` and `\\\\` are escapes there."""
    out = ""
    while position < len(word):
        letter = word[position]
        if letter == '"':
            return out, position + 1
        if letter == "\\" and word[position + 1 : position + 2] in ('"', "$", "\\"):
            out, position = out + word[position + 1], position + 2
        elif letter == "$":
            text, position = _variable(word, position + 1, variables)
            out += text
        else:
            out, position = out + letter, position + 1
    raise _bad(word, 'the quote " is never closed')


def _variable(word: str, position: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """The value of a variable whose `$` stands before `position`, and where it goes on."""
    braced = word[position : position + 1] == "{"
    found = _NAME.match(word, position + braced)
    if found is None:
        if braced:
            raise _bad(word, "`${` is not followed by a name")
        return "$", position
    name, after = found[0], found.end()
    value = variables.get(name)
    if not braced:
        return value or "", after
    end = _closing(word, after)
    modifier = re.match(r"(:?)([-+])", word[after:end])
    if modifier is None:
        if after != end:
            raise _bad(word, "only ${name}, ${name:-other} and ${name:+other} are understood")
        return value or "", end + 1
    set_ = value is not None and (value != "" or not modifier[1])
    if modifier[2] == "-":
        chosen = value or "" if set_ else expand(word[after + len(modifier[0]) : end], variables)
    else:
        chosen = expand(word[after + len(modifier[0]) : end], variables) if set_ else ""
    return chosen, end + 1


def _closing(word: str, position: int) -> int:
    """Where the brace closes whose content begins at `position`; braces nest."""
    depth = 1
    while position < len(word):
        if word[position] == "\\":
            position += 1
        elif word.startswith("${", position):
            depth += 1
        elif word[position] == "}":
            depth -= 1
            if not depth:
                return position
        position += 1
    raise _bad(word, "the brace of ${ is never closed")


def _bad(text: str, problem: str) -> BadStep:
    return BadStep(f"{text!r}: {problem}")
