"""What stops a person's command: said so that they can act on it."""

EXIT_USAGE = 2
EXIT_TIME = 124
EXIT_PLATFORM = 125
EXIT_CANCELLED = 130


class StokerError(Exception):
    """Something that ends a command with a message for the person who called it; not a bug in Stoker.

    exit_code: what the process ends with (2 usage, 124 time, 125 platform, 130 cancelled).
    """

    exit_code = EXIT_PLATFORM


class BadInput(StokerError):
    """Input that cannot be meant: which field, which value, and what to do instead.

    where: file and line in front (`job.yaml:7`), or empty for flags.
    """

    exit_code = EXIT_USAGE

    def __init__(self, field: str, message: str, fix: str = "", where: str = "") -> None:
        super().__init__(field, message, fix, where)
        self.field = field
        self.message = message
        self.fix = fix
        self.where = where

    def __str__(self) -> str:
        return said(self.field, self.message, self.fix, self.where)


class BadInputs(StokerError):
    """Several problems of one document, all told at once."""

    exit_code = EXIT_USAGE

    def __init__(self, problems: tuple[BadInput, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def said(field: str, message: str, fix: str = "", where: str = "") -> str:
    """One line: `where: field: message; fix`, each part only if there is one."""
    front = ": ".join(part for part in (where, field, message) if part)
    return f"{front}; {fix}" if fix else front


def did_you_mean(word: str, known: "list[str] | tuple[str, ...] | set[str] | frozenset[str]") -> str:
    """`did you mean X?`, or the list of what is known when nothing is near."""
    import difflib

    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.7)
    if not near:
        near = [
            key
            for key in sorted(known)
            if key.lower().replace("_", "") == word.lower().replace("_", "").replace("-", "")
        ]
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"


def shown(value: object) -> str:
    """A value inside a message: quoted, and cut when long."""
    import json

    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
