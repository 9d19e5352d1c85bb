"""Why an image could not be made."""

import re

_SIGKILL = 9
_WORDS = re.compile(r"\bsignal:? 9\b|\bSIGKILL\b")


class BuildFailed(Exception):
    """reason: of research/images §9, such as PipUnsatisfiable. where: the place in the user's definition, or empty.

    transient: whether another try may help with nothing changed. fix: what a person can do, where the reason alone does
    not tell.
    """

    def __init__(self, reason: str, message: str, *, where: str = "", transient: bool = False, fix: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.where = where
        self.transient = transient
        self.fix = fix


def killed(code: int | None, words: str = "") -> bool:
    """Whether a child, or what it started by its own words, was ended by SIGKILL. Nobody here sends it but the kernel, to
    what takes more memory than the pod may."""
    return code in (-_SIGKILL, 128 + _SIGKILL) or _WORDS.search(words) is not None


def out_of_memory(who: str) -> BuildFailed:
    """Of a part of the build that was killed."""
    return BuildFailed("OutOfMemory", f"{who} was killed: it needed more memory than builder.resources allows")


def disk_full(words: str) -> BuildFailed:
    """Of a build that its node's disk has no room for: a limit of the pod's own is the kubelet's to enforce."""
    return BuildFailed(
        "DiskFull", words, transient=True,
        fix="request ephemeral-storage in builder.resources of the chart's values: builds then go where there is room",
    )  # fmt: skip
