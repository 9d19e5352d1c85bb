"""The lock of an environment: every package that its image holds, pinned by content. It is also the bill of materials."""

from typing import Literal

import msgspec

#: Raised when the bytes of a layer change for the same package: another rule of §7, another compressor.
LAYER_FORMAT = "2"


class Package(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One package. kind: where it comes from; python: a managed Python. build: conda's build string, a wheel's tags.

    sha256: of the file at url, hex. url: without credentials. size: of that file, in bytes; 0 where the index does not
    say. source: the file is a source distribution that the build made a wheel of.
    """

    kind: Literal["conda", "pypi", "python"]
    name: str
    version: str
    build: str
    sha256: str
    url: str
    size: int
    source: bool = False


class Lock(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """python: version of the environment's interpreter, empty for none. prefix: where the packages lie, absolute."""

    version: int = 1
    platform: str
    python: str
    prefix: str
    layer_format: str
    packages: tuple[Package, ...]


def layer_format(bytecode: bool) -> str:
    """The name of the rules by which layers are written."""
    return LAYER_FORMAT if bytecode else f"{LAYER_FORMAT}-source"


def encode(lock: Lock) -> bytes:
    """lock.json: packages and members sorted, so that one lock has one text."""
    packages = tuple(sorted(lock.packages, key=lambda one: (one.kind, one.name, one.version)))
    return msgspec.json.encode(msgspec.structs.replace(lock, packages=packages), order="sorted")


def decode(content: bytes) -> Lock:
    """Raises msgspec.DecodeError or ValidationError for anything else than a lock."""
    return msgspec.json.decode(content, type=Lock)


def pins(lock: Lock) -> list[list[str]]:
    """What of the packages goes into the lock's key."""
    return sorted([one.name, one.version, one.build, one.sha256] for one in lock.packages)
