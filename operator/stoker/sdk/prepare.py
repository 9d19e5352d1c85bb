"""A draft with everything in it listed and hashed: what will be sent, and how much. Sends nothing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stoker.errors import BadInput
from stoker.sdk.definitions import inline_entries, with_entries
from stoker.sdk.draft import Draft, EnvironmentAsked, LocalInput
from stoker.storage.hashing import Hashed, StatCache, hash_files
from stoker.storage.listing import File, Listing, SnapshotError, scan

#: Above this (bytes) a snapshot is most often a mistake, and a yes is asked.
LARGE_BYTES = 300_000_000


@dataclass(frozen=True)
class Tree:
    """A folder or a single file that goes: its listing and its digest. seconds: how long finding that out took."""

    listing: Listing
    hashed: Hashed

    @property
    def digest(self) -> str:
        return self.hashed.digest

    @property
    def root(self) -> Path:
        return self.listing.root


@dataclass(frozen=True)
class Prepared:
    """What a draft sends. code: None when the draft has none, inline code, or a pushed snapshot."""

    draft: Draft
    code: Tree | None = None
    inputs: Mapping[str, Tree] = field(default_factory=dict)

    @property
    def snapshot(self) -> str | None:
        """Digest of the code, None for none and for inline code."""
        return self.code.digest if self.code else self.draft.snapshot

    @property
    def trees(self) -> Sequence[tuple[str, Tree]]:
        """Everything that goes, the code first: (what it is, tree)."""
        return [*([("snapshot", self.code)] if self.code else []), *((f"input {n}", t) for n, t in self.inputs.items())]


def prepare(
    draft: Draft, *, with_inputs: bool, extra_ignore: Sequence[str] = (), allow_secrets: Sequence[str] = ()
) -> Prepared:
    """List and hash what a draft names. with_inputs: local inputs too (a cluster gets them as snapshots; a local run reads
    them in place). Raises BadInput that names the path."""
    code = None
    if draft.code is not None:
        code = code_tree(draft.code, extra_ignore, allow_secrets)
        if not code.listing.files:
            fix = f"look at what is left out: stoker snapshot {draft.code}"
            raise BadInput("code", f"{draft.code} has no file to send: the ignore file leaves nothing", fix)
    draft = replace(draft, environment=_content(draft, code))
    inputs = {name: input_tree(name, one) for name, one in draft.local_inputs.items()} if with_inputs else {}
    return Prepared(draft, code, inputs)


def _content(draft: Draft, code: Tree | None) -> EnvironmentAsked | None:
    """The environment with the digest of what its steps copy. What lies in a pushed snapshot is for the cluster to read."""
    if draft.environment is None or draft.snapshot is not None:
        return draft.environment
    if draft.inline is not None:
        return with_entries(draft.environment, inline_entries(draft.inline))
    return with_entries(draft.environment, code.hashed.entries if code else None)


def code_tree(place: Path, extra_ignore: Sequence[str] = (), allow_secrets: Sequence[str] = ()) -> Tree:
    """The tree of a code folder by its ignore rules, or of a single file."""
    try:
        whole = not place.is_file()
        listing = scan(place, extra_ignore=extra_ignore, allow_secrets=allow_secrets) if whole else _single(place)
        return Tree(listing, hash_files(listing, StatCache.open(listing.root)))
    except SnapshotError as error:
        raise BadInput("code", str(error)) from error


def input_tree(name: str, one: LocalInput) -> Tree:
    """The tree of an input: everything in the folder, or the one file."""
    try:
        listing = _single(one.path) if one.kind == "uri_file" else scan(one.path, everything=True)
        return Tree(listing, hash_files(listing, StatCache.open(listing.root)))
    except SnapshotError as error:
        raise BadInput(f"inputs.{name}", str(error)) from error


def _single(path: Path) -> Listing:
    status = path.stat()
    stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
    file = File(path.name, status.st_size, os.name != "nt" and bool(status.st_mode & 0o100), status=stamp)
    return Listing(path.parent, (file,))
