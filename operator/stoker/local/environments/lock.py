"""What was chosen for a definition on this machine: every package pinned, so that it stays what it was."""

import hashlib

import msgspec

from stoker.core.environment.keys import short
from stoker.errors import StokerError

VERSION = 1


class Pin(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One package. kind: conda or pypi. build: conda's build string. sha256: of conda's file; a wheel's hashes are in the
    lock's requirements, one for each file that serves."""

    kind: str
    name: str
    version: str
    build: str = ""
    sha256: str = ""


class LocalLock(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """definition_key: hex. machine: where it holds, as `machine.name` says. refresh: of the definition it was solved for.

    python: version, or the path of the interpreter that a venv is made of. packages: sorted. conda: text of a rattler
    lock file, empty without conda packages. requirements: lines for pip with versions and hashes.
    """

    version: int = VERSION
    definition_key: str
    machine: str
    refresh: str = ""
    python: str = ""
    packages: tuple[Pin, ...] = ()
    conda: str = ""
    requirements: str = ""
    solved_at: str = ""

    @property
    def key(self) -> str:
        """Hex digest of what it holds, not of when or for which `refresh` it was solved."""
        told = {
            "conda": [[one.name, one.version, one.build, one.sha256] for one in self.packages if one.kind == "conda"],
            "machine": self.machine,
            "python": self.python,
            "requirements": self.requirements,
        }
        return hashlib.sha256(b"env-local-lock/v1\n" + msgspec.json.encode(told, order="sorted")).hexdigest()

    @property
    def folder(self) -> str:
        """Name of the environment's folder."""
        return short(self.key)


class LockUnreadable(StokerError):
    """A lock that another version of Stoker wrote, or that is damaged."""


def encode(lock: LocalLock) -> bytes:
    """lock.json: indented, for people who look."""
    return msgspec.json.format(msgspec.json.encode(lock, order="sorted"), indent=2) + b"\n"


def decode(content: bytes) -> LocalLock:
    """Raises LockUnreadable."""
    try:
        lock = msgspec.json.decode(content, type=LocalLock)
    except msgspec.MsgspecError as error:
        raise LockUnreadable(str(error)) from None
    if lock.version != VERSION:
        raise LockUnreadable(f"version {lock.version}")
    return lock
