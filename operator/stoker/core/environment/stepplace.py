"""Where docker steps are done: here, by rewriting the image's config and adding a layer, or in BuildKit.

Steps are the canonical texts of a Definition: one instruction each, its keyword in capitals, its lines joined.
"""

from collections.abc import Sequence

from stoker.core.environment import stepwords

#: Folder of a build's container with one file for each of the Environment's secrets, named by its id.
SECRETS_DIRECTORY = "/var/run/stoker/secrets"

#: Instructions that only change what the image's config says.
CONFIG = frozenset(
    ("ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)
#: Flags of COPY that are understood here. A layer of ours is what --link asks for anyway.
_COPY_FLAGS = frozenset(("chmod", "chown", "link"))


def keyword(step: str) -> str:
    """The instruction's name, such as RUN."""
    return step.split(None, 1)[0].upper() if step.strip() else ""


def rest(step: str) -> str:
    """What follows the keyword."""
    return step.strip()[len(keyword(step)) :].strip()


def needs_buildkit(steps: Sequence[str]) -> bool:
    """Whether the steps must go through BuildKit; if one must, all of them do, in their order."""
    return any(_needs(step) for step in steps)


def first_that_needs(steps: Sequence[str]) -> str:
    """The first step that must go through BuildKit, empty if none does."""
    return next((step for step in steps if _needs(step)), "")


def _needs(step: str) -> bool:
    name = keyword(step)
    if name in CONFIG:
        return stepwords.has_patterns(step)
    # ADD unpacks archives and fetches addresses. RUN runs things. HEALTHCHECK and ONBUILD have no place in an OCI config.
    return name != "COPY" or stepwords.has_patterns(step) or _copy_needs(rest(step))


def _copy_needs(text: str) -> bool:
    listed, words = stepwords.split_flags(text)
    flags = dict(listed)
    if not _COPY_FLAGS.issuperset(flags) or "<<" in words:
        return True
    # A name is looked up in the base's /etc/passwd, a mode such as u+x needs the file's own.
    owner = flags.get("chown", "0").replace(":", "")
    return not (owner.isdecimal() and all(letter in "01234567" for letter in flags.get("chmod", "0")))
