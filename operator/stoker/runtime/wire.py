"""Formats that a run's pods, the server, the operator and the client share.

Everything here is a plain value and its bytes: no I/O. A format carries its version in its first line or field and
a reader refuses a version that it does not know.
"""

import hashlib
import re
import unicodedata
from typing import Iterable, List, NamedTuple, Optional, Tuple

MANIFEST_HEADER = b"stoker-manifest/v1\n"

#: Audience of the token with which a run's pod asks the server for a grant.
POD_AUDIENCE = "stoker-run"
#: Audience of the token with which a person's client reaches the server.
CLIENT_AUDIENCE = "stoker"
#: Version of the protocol between pods and server; the server speaks this one and the one before.
GRANT_PROTOCOL = 1


class WireError(ValueError):
    """Bytes that are not what the format says; the message names what is wrong."""


class Entry(NamedTuple):
    """One file or link of a snapshot.

    path: relative, `/` between parts, Unicode NFC. size: bytes (0 for a link). sha256: hex of the content, for a
    link of its target's UTF-8 text. target: where a link points, relative to the link's own folder; empty for a file.
    """

    path: str
    size: int
    sha256: str
    executable: bool = False
    target: str = ""

    @property
    def is_link(self) -> bool:
        return bool(self.target)


_HEX64 = re.compile(r"[0-9a-f]{64}\Z")


def path_problem(path: str) -> Optional[str]:
    """Why a path may not stand in a manifest, or None.

    Refused: empty, absolute, a drive, a backslash, NUL or other control characters, `.`/`..`/empty parts, a form
    that is not NFC.
    """
    if not path:
        return "the path is empty"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "the path is absolute"
    if "\\" in path or any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "the path has a backslash or a control character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "the path has an empty, `.` or `..` part"
    if unicodedata.normalize("NFC", path) != path:
        return "the path is not in Unicode form NFC"
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "the path is not valid Unicode"
    return None


def link_problem(path: str, target: str) -> Optional[str]:
    """Why a link may not stand in a manifest, or None: it must be relative and stay inside the tree."""
    if target.startswith("/") or "\\" in target or "\0" in target or "\n" in target or re.match(r"[A-Za-z]:", target):
        return "the link's target is not a plain relative path"
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return "the link leaves the tree"
    return None


def encode_manifest(entries: Iterable[Entry]) -> bytes:
    """The canonical bytes of a snapshot's manifest: sorted by the path's UTF-8 bytes, paths and targets with their
    lengths in front, so that no choice of names makes two trees equal."""
    ordered = sorted(entries, key=lambda entry: entry.path.encode("utf-8"))
    chunks = [MANIFEST_HEADER]
    for entry in ordered:
        path, target = entry.path.encode("utf-8"), entry.target.encode("utf-8")
        kind = "l" if entry.is_link else ("x" if entry.executable else "f")
        chunks.append(
            ("%s %d %s %d %d " % (kind, entry.size, entry.sha256, len(path), len(target))).encode("ascii")
            + path + b" " + target + b"\n"
        )
    return b"".join(chunks)


def decode_manifest(data: bytes) -> Tuple[Entry, ...]:
    """The entries of a manifest; raises WireError on anything that `encode_manifest` would not have written.

    Every path and link is checked, order is strict, and no path may be the folder of another or differ from another
    only by case (such a tree cannot be unpacked everywhere).
    """
    if not data.startswith(MANIFEST_HEADER):
        raise WireError("not a stoker-manifest/v1")
    position = len(MANIFEST_HEADER)
    entries = []  # type: List[Entry]
    while position < len(data):
        fields = data[position:position + 160].split(b" ", 5)
        if len(fields) < 6:
            raise WireError("manifest entry %d is cut off" % len(entries))
        kind, size_text, sha256_bytes, path_text, target_text, _ = fields
        try:
            size, path_length, target_length = (_number(text) for text in (size_text, path_text, target_text))
            sha256 = sha256_bytes.decode("ascii")
            start = position + sum(len(field) + 1 for field in fields[:5])
            path = data[start:start + path_length].decode("utf-8")
            target = data[start + path_length + 1:start + path_length + 1 + target_length].decode("utf-8")
        except (ValueError, UnicodeDecodeError) as error:
            raise WireError("manifest entry %d: %s" % (len(entries), error)) from None
        entry = Entry(path, size, sha256, kind == b"x", target)
        line = encode_manifest([entry])[len(MANIFEST_HEADER):]
        if data[position:position + len(line)] != line:
            raise WireError("manifest entry %d is not in canonical form" % len(entries))
        entries.append(entry)
        position += len(line)
    _check_tree(entries)
    return tuple(entries)


def manifest_digest(manifest: bytes) -> str:
    """`sha256:` and the hex digest of the canonical manifest: the identity of a snapshot."""
    return "sha256:" + hashlib.sha256(manifest).hexdigest()


def _number(text: bytes) -> int:
    if not re.match(rb"(0|[1-9][0-9]{0,18})\Z", text):
        raise ValueError("%r is not a number" % text)
    return int(text)


def _check_tree(entries: List[Entry]) -> None:
    folded = {}  # type: dict[str, str]
    previous = b""
    for entry in entries:
        problem = path_problem(entry.path) or (link_problem(entry.path, entry.target) if entry.is_link else None)
        if problem is None and not _HEX64.match(entry.sha256):
            problem = "the sha256 is not 64 hex digits"
        encoded = entry.path.encode("utf-8", "surrogatepass")
        if problem is None and previous and encoded <= previous:
            problem = "the path is out of order or stands twice"
        if problem is None and entry.path.casefold() in folded:
            problem = "the path differs from %r only by case" % folded[entry.path.casefold()]
        if problem:
            raise WireError("%r: %s" % (entry.path, problem))
        previous = encoded
        folded[entry.path.casefold()] = entry.path
    for entry in entries:
        parts = entry.path.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            if folder.casefold() in folded:
                raise WireError("%r is a file or a link and also the folder of %r" % (folder, entry.path))
