"""Image references in their one normal form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*\Z")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?\Z")


class BadReference(ValueError):
    """A text that names no image; the message names the text, what is wrong, and what a good one looks like."""


@dataclass(frozen=True, slots=True)
class Reference:
    """registry: `host[:port]`. repository: path in it. Either tag or digest decides; a digest wins over a tag."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Without tag and digest: what a pinned reference begins with."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def pinned(self, digest: str) -> str:
        """The reference that always means the same bytes."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def mirrored(reference: Reference, mirrors: Mapping[str, str]) -> Reference:
    """Where an image is read from. mirrors: a registry's host -> the `host/path` below which its repositories lie too."""
    mirror = mirrors.get(reference.registry)
    if not mirror:
        return reference
    host, _, path = mirror.strip("/").partition("/")
    return replace(
        reference, registry=host, repository=f"{path}/{reference.repository}" if path else reference.repository
    )


def parse(text: str) -> Reference:
    """The normal form of a reference as people write it; raises BadReference.

    As container runtimes have it: no registry means docker.io, there a single name lies in `library/`, and neither tag
    nor digest means the tag `latest`.
    """
    rest, digest = text.strip(), None
    if "@" in rest:
        rest, _, digest = rest.partition("@")
        if not _DIGEST.match(digest):
            raise BadReference(f"image {text!r}: {digest!r} is not a digest; it looks like sha256:<64 hex digits>")
    registry, slash, path = rest.partition("/")
    # The first part is a registry only if it cannot be a part of a repository's name.
    if not slash or not ("." in registry or ":" in registry or registry == "localhost" or registry != registry.lower()):
        registry, path = DEFAULT_REGISTRY, rest
    path, tag = _split_tag(text, path)
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if not _REGISTRY.match(registry):
        raise BadReference(f"image {text!r}: {registry!r} is not a registry's host name")
    if not _REPOSITORY.match(path) or len(path) > 255:
        raise BadReference(
            f"image {text!r}: {path!r} is not a repository; use lower-case letters, digits and . _ - between slashes, "
            "such as registry.example.com/team/train:1"
        )
    reference = Reference(registry, path, tag, digest)
    return reference if tag or digest else replace(reference, tag=DEFAULT_TAG)


def _split_tag(text: str, path: str) -> tuple[str, str | None]:
    path, colon, tag = path.partition(":")
    if not colon:
        return path, None
    if not _TAG.match(tag):
        raise BadReference(f"image {text!r}: {tag!r} is not a tag; use letters, digits and . _ -, at most 128")
    return path, tag
