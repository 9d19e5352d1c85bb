"""Docker steps: which are allowed, and the form in which they are part of the key.

Steps run on the base that `image` names, so there is no FROM; whatever comes from another image comes by digest; secrets
are mounted by id and never written down.
"""

import re
from collections.abc import Collection, Iterator, Sequence

from stoker.core import reference
from stoker.core.environment import secrets
from stoker.core.environment.dockerfile import Step, parse, unquoted, words
from stoker.core.environment.problems import Place, Problem

#: What needs nothing but files and settings; everything else runs in a builder.
_REMOTE = re.compile(r"(https?|ftp|git|ssh)://|git@")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}\Z")
_FLAGS = {
    "RUN": ("mount", "network"),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "ADD": ("checksum", "chown", "chmod", "link", "keep-git-dir", "exclude", "unpack"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}


def read(
    texts: Sequence[tuple[str, Place]], secret_ids: Collection[str], *, has_context: bool
) -> tuple[tuple[Step, ...], list[Problem]]:
    """The steps of texts with instructions, in order. has_context: whether there is a folder to copy from."""
    steps: list[Step] = []
    problems: list[Problem] = []
    for number, (text, place) in enumerate(texts):
        found, unread = parse(text, place, whole_file=number == 0)
        steps += found
        # The text of one instruction needs no line beside its field.
        many = "\n" in text.strip("\n")
        broken = [(unread_one.line, unread_one) for unread_one in unread]
        for step in found:
            here = place.on(step.line if many or place.file else 0)
            broken += [(step.line, here.problem(*said)) for said in offences(step, secret_ids, has_context=has_context)]
        problems += [
            one if many or place.file else one._replace(line=0) for _, one in sorted(broken, key=lambda b: b[0])
        ]
    return tuple(steps), problems


def reads_context(step: Step) -> bool:
    """Whether a step takes files from the context."""
    if step.keyword in ("COPY", "ADD"):
        return not step.values("from") and any(map(is_local, sources(step)))
    return any("from" not in mount and mount.get("type", "bind") == "bind" for mount in mounts(step))


def sources(step: Step) -> list[str]:
    """What a COPY or an ADD takes: paths, URLs or heredocs, without the place where it goes."""
    if step.rest.startswith("["):
        found = re.findall(r'"((?:[^"\\]|\\.)*)"', step.rest)
        return found[:-1]
    return [unquoted(word) for word in words(step.rest)][:-1]


def mounts(step: Step) -> list[dict[str, str]]:
    """The options of each `--mount` of a RUN."""
    found = []
    for text in step.values("mount"):
        pairs = (part.partition("=") for part in text.strip('"').split(","))
        found.append({name.strip().lower(): value for name, _, value in pairs})
    return found


def offences(step: Step, secret_ids: Collection[str], *, has_context: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with one step: (message, fix)."""
    if step.keyword in _REFUSED:
        yield _REFUSED[step.keyword]
        return
    known = _FLAGS.get(step.keyword, ())
    for name, _ in step.flags:
        if name not in known:
            allowed = ", ".join(f"--{flag}" for flag in known) or "none"
            yield f"{step.keyword} has no flag --{name} here", f"flags of {step.keyword}: {allowed}"
    if step.keyword == "RUN":
        yield from _run(step, secret_ids)
    elif step.keyword in ("COPY", "ADD"):
        yield from _copy(step)
    elif step.keyword in ("ENV", "LABEL", "ARG"):
        yield from _assignments(step)
    if reads_context(step) and not has_context:
        yield (
            f"{step.keyword} takes files from a folder, and none is named",
            "set `context` to a folder of the code, such as `context: docker`",
        )
    told = secrets.in_text(step.text)
    if told and step.keyword not in ("ENV", "LABEL", "ARG"):
        yield f"{step.keyword} has {told}, which would be in the image", _MOUNT_IT


_MOUNT_IT = "name it in `secrets` and read it with RUN --mount=type=secret,id=NAME"
_REFUSED = {
    "FROM": ("FROM is not a step: the base is `image`", "set `image` to that base and remove the line"),
    "ONBUILD": ("ONBUILD does nothing in an image that is no base", "write the instruction itself"),
    "MAINTAINER": ("MAINTAINER is not supported", "write LABEL org.opencontainers.image.authors=..."),
}


def _run(step: Step, secret_ids: Collection[str]) -> Iterator[tuple[str, str]]:
    if step.values("network") and step.values("network") not in (["default"], ["none"]):
        yield "RUN --network=host is not allowed", "remove it: a step has the builder's network"
    for mount in mounts(step):
        kind = mount.get("type", "bind")
        if kind == "secret":
            name = mount.get("id", "")
            if not name:
                yield "a secret mount has no id", "write RUN --mount=type=secret,id=NAME"
            elif name not in secret_ids:
                listed = ", ".join(sorted(secret_ids)) or "none"
                yield (
                    f"secret id {name!r} is not in `secrets` (there: {listed})",
                    f"add `secrets: [{{id: {name}, secretRef: ...}}]`",
                )
        elif kind == "ssh":
            yield "RUN --mount=type=ssh: no ssh agent is there", _MOUNT_IT
        elif kind not in ("bind", "cache", "tmpfs"):
            yield f"RUN --mount=type={kind} is unknown", "write bind, cache, tmpfs or secret"
        if "from" in mount and not _pinned(mount["from"]):
            yield _not_pinned(f"RUN --mount=from={mount['from']}")


def _copy(step: Step) -> Iterator[tuple[str, str]]:
    taken = sources(step)
    if not taken:
        yield f"{step.keyword} says from where or to where, not both", f"write {step.keyword} SOURCE DESTINATION"
    for image in step.values("from"):
        if not _pinned(image):
            yield _not_pinned(f"COPY --from={image}")
    if step.values("from"):
        return
    for source in filter(is_local, taken):
        if ".." in source.split("/"):
            yield (
                f"{source!r} lies outside of the context",
                "name a folder above it as `context`, or move the files into it",
            )


def _assignments(step: Step) -> Iterator[tuple[str, str]]:
    parts = words(step.rest)
    if step.keyword != "ARG" and "=" not in parts[0]:
        if len(parts) < 2:
            yield f"{step.keyword} {parts[0]} has no value", f"write {step.keyword} {parts[0]}=value"
            return
        pairs = [(parts[0], step.rest.partition(parts[0])[2].strip())]
    else:
        pairs = [(name, value) for name, _, value in (part.partition("=") for part in parts)]
        for part in parts:
            if step.keyword != "ARG" and "=" not in part:
                yield (
                    f"{step.keyword}: {part!r} has no value",
                    f"write {part}=value, and quotes around values with blanks",
                )
    for name, value in pairs:
        told = secrets.in_variable(unquoted(name), value)
        if told:
            fix = _MOUNT_IT if step.keyword == "ARG" else f"{_MOUNT_IT}, or give it to the command as a secret input"
            yield f"{step.keyword} has {told}, which would be in the image", fix


def is_local(source: str) -> bool:
    """Whether a source of COPY or ADD is a path in the context: not a URL and not a heredoc."""
    return not _REMOTE.match(source) and not re.match(r"\d*<<", source)


def _pinned(image: str) -> bool:
    if not _DIGEST.search(image):
        return False
    try:
        reference.parse(image)
    except reference.BadReference:
        return False
    return True


def _not_pinned(what: str) -> tuple[str, str]:
    return (
        f"{what} is neither a stage (there is one only) nor an image with a digest",
        "write the image as name@sha256:<64 hex digits>",
    )
