"""Formats that a run's pods, the server, the operator and the client share: plain values and their bytes, no I/O.

A format carries its version in its first line or field; a reader refuses a version that it does not know.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

MANIFEST_HEADER = b"stoker-manifest/v1\n"

#: Audience of the token with which a run's pod asks the server for a grant.
POD_AUDIENCE = "stoker-run"
#: Audience of the token with which a person's client reaches the server.
CLIENT_AUDIENCE = "stoker"
#: Where rank 0 listens by convention, unless the user's environment says otherwise.
MASTER_PORT = 29500
#: Where the tracking server of a pod listens, on loopback; MASTER_PORT + 1 belongs to MPI.
TRACKING_PORT = 29510
#: Most metrics whose last values an exit record has.
MOST_METRICS = 64
#: Version of the protocol between pods and server; the server speaks this one and the one before.
GRANT_PROTOCOL = 2

#: A file above this many bytes goes up in parts of at least this many bytes, at most MAX_PARTS of them.
SINGLE_PUT_BYTES = 64 * 1024 * 1024
MAX_PARTS = 10_000
#: Most objects in one request for write URLs, and most keys in one request for read URLs.
MAX_SIGNED_OBJECTS = 1000
#: Longest path of a stored file in UTF-8 bytes; with the prefix of a run it stays below S3's 1024.
MAX_PATH_BYTES = 800
#: The whole log of a rank, and the folder of its live pieces (see `segment_path`).
LOG_PATH = "logs/std_log.txt"
SEGMENT_PREFIX = "logs/.segments/"
#: Saving ends after so long in which nothing was accepted (limits.saveStallSeconds).
SAVE_STALL_SECONDS = 3600
#: Exit code of launch when the platform, not the command, is to blame.
PLATFORM_EXIT_CODE = 125
#: Longest log tail in an exit record, and longest termination message that launch writes, in bytes.
LOG_TAIL_BYTES = 2048


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
            + path
            + b" "
            + target
            + b"\n"
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
    entries: List[Entry] = []
    while position < len(data):
        fields = data[position : position + 160].split(b" ", 5)
        if len(fields) < 6:
            raise WireError("manifest entry %d is cut off" % len(entries))
        kind, size_text, sha256_bytes, path_text, target_text, _ = fields
        try:
            size, path_length, target_length = (_number(text) for text in (size_text, path_text, target_text))
            sha256 = sha256_bytes.decode("ascii")
            start = position + sum(len(field) + 1 for field in fields[:5])
            path = data[start : start + path_length].decode("utf-8")
            target = data[start + path_length + 1 : start + path_length + 1 + target_length].decode("utf-8")
        except (ValueError, UnicodeDecodeError) as error:
            raise WireError("manifest entry %d: %s" % (len(entries), error)) from None
        entry = Entry(path, size, sha256, kind == b"x", target)
        line = encode_manifest([entry])[len(MANIFEST_HEADER) :]
        if data[position : position + len(line)] != line:
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
    folded: dict[str, str] = {}
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
    problem = chain_problem({entry.path: entry.target for entry in entries if entry.is_link})
    if problem:
        raise WireError(problem)


def chain_problem(targets: Mapping[str, str]) -> Optional[str]:
    """The first of a tree's links (path -> target) that the others make wrong, and why; or None."""
    links = {path.casefold(): target for path, target in targets.items()}
    found = ((path, _chain_problem(path, target, links)) for path, target in targets.items())
    return next(("%r: %s" % (path, problem) for path, problem in found if problem), None)


def _chain_problem(path: str, target: str, links: Mapping[str, str]) -> Optional[str]:
    """Why following a link through the other links leaves the tree or never ends, or None.

    `link_problem` reads the text only; `a -> d/up/../..` is harmless as text and escapes when `d/up` is a link.
    """
    here, pending, hops = path.split("/")[:-1], target.split("/")[::-1], 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return "the link leaves the tree through another link"
            here.pop()
            continue
        further = links.get("/".join([*here, part]).casefold())
        if further is None:
            here.append(part)
            continue
        hops += 1
        if hops > 40:
            return "the link runs in a circle"
        pending.extend(further.split("/")[::-1])
    return None


class ExitRecord(NamedTuple):
    """How the command of one rank ended, as launch (or, for a launch that died, ship) saw it.

    code: 0..255, 128+n when signal n ended the command; None when it never ran or nobody saw its end. reason: None
    when the command simply ended, else CamelCase, e.g. TimedOut; `Stopped` means that launch was told to stop before
    the command had ended, whatever the code. Times are RFC 3339 in UTC. log_bytes: size of the raw log. metrics: last values of
    what the command tracked, by name, at most MOST_METRICS.
    """

    code: Optional[int] = None
    signal: Optional[int] = None
    reason: Optional[str] = None
    message: str = ""
    started_at: Optional[str] = None
    finished_at: Optional[str] = None
    log_bytes: int = 0
    log_tail: str = ""
    metrics: Mapping[str, float] = {}

    def document(self) -> dict[str, Any]:
        """The record as the JSON object that run/exit.json and seal.json hold."""
        return {
            **({"metrics": dict(self.metrics)} if self.metrics else {}),
            "version": 1,
            "code": self.code,
            "signal": self.signal,
            "reason": self.reason,
            "message": self.message,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "logBytes": self.log_bytes,
            "logTail": self.log_tail,
        }


def exit_record(document: Any) -> ExitRecord:
    """The exit record in a JSON object; raises WireError when it is not one of version 1."""
    if not isinstance(document, dict) or document.get("version") != 1:
        raise WireError("not an exit record of version 1")
    record = ExitRecord(
        document.get("code"),
        document.get("signal"),
        document.get("reason"),
        document.get("message") or "",
        document.get("startedAt"),
        document.get("finishedAt"),
        document.get("logBytes") or 0,
        document.get("logTail") or "",
        _metrics(document.get("metrics")),
    )
    for name, value, kinds in (
        ("code", record.code, (int, type(None))),
        ("signal", record.signal, (int, type(None))),
        ("reason", record.reason, (str, type(None))),
        ("message", record.message, (str,)),
        ("startedAt", record.started_at, (str, type(None))),
        ("finishedAt", record.finished_at, (str, type(None))),
        ("logBytes", record.log_bytes, (int,)),
        ("logTail", record.log_tail, (str,)),
    ):
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise WireError("exit record: %s is %r" % (name, value))
    return record


def _metrics(document: Any) -> Dict[str, float]:
    """Raises WireError on anything but a few names with finite numbers."""
    if document is None:
        return {}
    if not isinstance(document, dict) or len(document) > MOST_METRICS:
        raise WireError("exit record: metrics is not an object of at most %d" % MOST_METRICS)
    for name, value in document.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not 0 < len(name) <= 250:
            raise WireError("exit record: metrics: %r is %r" % (name, value))
    return {name: float(value) for name, value in document.items()}


class StoredFile(NamedTuple):
    """A file of a rank that is in the store: path relative to the rank's prefix, size in bytes, hex sha256."""

    path: str
    size: int
    sha256: str

    def document(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


class MissingFile(NamedTuple):
    """A file that should be in the store and is not; reason: CamelCase, a colon, and what happened."""

    path: str
    size: int
    reason: str

    def document(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "reason": self.reason}


def stored_files(documents: Any) -> Tuple[StoredFile, ...]:
    """The file list of a seal or of a request to seal; raises WireError on a bad path, size, digest or a double."""
    if not isinstance(documents, list):
        raise WireError("files is not a list")
    files: List[StoredFile] = []
    for document in documents:
        if not isinstance(document, dict):
            raise WireError("files: %r is not an object" % (document,))
        path, size, sha256 = document.get("path"), document.get("size"), document.get("sha256")
        if not isinstance(path, str) or path_problem(path):
            raise WireError("files: path %r: %s" % (path, path_problem(path) if isinstance(path, str) else "no text"))
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise WireError("files: %r: size is %r" % (path, size))
        if not isinstance(sha256, str) or not _HEX64.match(sha256):
            raise WireError("files: %r: sha256 is %r" % (path, sha256))
        files.append(StoredFile(path, size, sha256))
    if len({file.path for file in files}) < len(files):
        raise WireError("files: a path stands twice")
    return tuple(files)


def seal_document(
    job: str,
    attempt: int,
    rank: int,
    exit: Optional[Mapping[str, Any]],
    files: Sequence[StoredFile],
    missing: Sequence[MissingFile] = (),
    skipped: Sequence[Mapping[str, str]] = (),
    reason: Optional[str] = None,
    message: str = "",
    *,
    sealed_at: str,
    sealed_by: str,
) -> dict[str, Any]:
    """The JSON object of a rank's seal.json; complete when nothing is missing and no other reason is given."""
    if missing and reason is None:
        reason = "OutputsNotSaved"
        message = message or "%d of %d files are not saved: %s" % (
            len(missing),
            len(missing) + len(files),
            ", ".join("%s (%s)" % (m.path, m.reason) for m in missing[:5]),
        )
    return {
        "version": 1,
        "job": job,
        "attempt": attempt,
        "rank": rank,
        "complete": reason is None,
        "reason": reason,
        "message": message,
        "exit": exit,
        "files": [file.document() for file in sorted(files)],
        "missing": [file.document() for file in sorted(missing)],
        "skipped": [dict(entry) for entry in skipped],
        "sealedAt": sealed_at,
        "sealedBy": sealed_by,
    }


def same_seal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two seals say the same, whoever wrote them and when: a repeated request to seal is not a conflict."""
    ignored = ("sealedAt", "sealedBy")
    return {key: one[key] for key in one if key not in ignored} == {k: other[k] for k in other if k not in ignored}


def json_bytes(document: Any) -> bytes:
    """The one way our JSON files are written: sorted keys, two spaces, UTF-8, a newline at the end."""
    return (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def segment_path(offset: int) -> str:
    """Where the live piece of the log that starts at this byte is stored, relative to the rank's prefix."""
    return SEGMENT_PREFIX + "%016d" % offset


def storable_path(path: str) -> str:
    """A path as it can be stored: NFC, and `%XX` for every byte of what `path_problem` refuses inside a name.

    Odd names that a training script makes must not cost it its files. Names that need no change stay as they are.
    """
    text = unicodedata.normalize("NFC", path)
    return "".join(
        character
        if 32 <= ord(character) != 127 and character != "\\" and not 0xD800 <= ord(character) <= 0xDFFF
        else "".join("%%%02X" % byte for byte in character.encode("utf-8", "surrogateescape"))
        for character in text
    )


def json_object(content: bytes) -> Dict[str, Any]:
    """The JSON object in these bytes; raises WireError when it is anything else."""
    try:
        document = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise WireError("not JSON: %s" % error) from None
    if not isinstance(document, dict):
        raise WireError("a JSON object is wanted, this is %s" % type(document).__name__)
    return document
