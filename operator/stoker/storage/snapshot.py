"""A folder of code as a snapshot: which files go, their digest, and the zip that carries them.

The identity of a snapshot is the digest of its manifest (runtime/wire.py), so it depends on names, contents and exec
bits only: not on the order of files, their times, the owner, the system or the way the zip was packed.
"""

from stoker.storage.archive import write_zip
from stoker.storage.hashing import Hashed, StatCache, hash_files
from stoker.storage.listing import File, Listing, Skipped, SnapshotError, explain, read_rules, scan

__all__ = [
    "File",
    "Hashed",
    "Listing",
    "Skipped",
    "SnapshotError",
    "StatCache",
    "explain",
    "hash_files",
    "read_rules",
    "scan",
    "write_zip",
]
