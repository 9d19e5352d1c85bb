"""Which packages share a layer, and in which order layers lie (research/images §7).

A package has a layer to itself, so that an edit of one package moves the bytes of one package. There are at most
MOST_LAYERS, because bases bring their own and runtimes take about 125: above that the largest stay alone, and the rest
goes into buckets by name, so that an edit touches one bucket and never moves the others.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

MOST_LAYERS = 60
ALONE = 40
BUCKETS = 20


@dataclass(frozen=True, slots=True)
class Part:
    """One package. key: hex, by its content. size: of its file, in bytes. stability: 0 changes least often.

    pinned: has a layer to itself whatever its size (interpreter, venv).
    """

    name: str
    key: str
    size: int
    stability: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """What lies in one layer: parts in the order in which an install would take them."""

    parts: tuple[Part, ...]

    @property
    def key(self) -> str:
        """Names the layer's content: the part's own key, or that of all keys."""
        if len(self.parts) == 1:
            return self.parts[0].key
        return digest("env-layer/v1", [part.key for part in self.parts])

    @property
    def name(self) -> str:
        first = self.parts[0].name
        return first if len(self.parts) == 1 else f"{first} and {len(self.parts) - 1} more"


def digest(domain: str, content: object) -> str:
    """sha256, hex, over a domain tag and canonical JSON."""
    return hashlib.sha256(f"{domain}\n".encode() + msgspec.json.encode(content, order="sorted")).hexdigest()


def package_key(
    *, kind: str, sha256: str, python: str, prefix: str, layer_format: str, builder: str = "", extra: str = ""
) -> str:
    """Names the layer of one package: hex. python: the tag whose folder names and bytecode it has, such as cp311.

    builder: digest of the image whose tools ran the package's own code (source distributions, post-link scripts), else
    empty: such a layer is only good for that builder.
    """
    return digest(
        "env-package/v1",
        {
            "builder": builder,
            "extra": extra,
            "kind": kind,
            "layerFormat": layer_format,
            "prefix": prefix,
            "python": python,
            "sha256": sha256,
        },
    )


def split(parts: Iterable[Part]) -> tuple[Unit, ...]:
    """Units in the order of their layers. The same parts give the same units, in whatever order they come."""
    all_parts = sorted(parts, key=lambda part: (part.name, part.key))
    if len(all_parts) <= MOST_LAYERS:
        return order(Unit((part,)) for part in all_parts)
    ranked = sorted(all_parts, key=lambda part: (not part.pinned, -part.size, part.name, part.key))
    alone, rest = ranked[:ALONE], ranked[ALONE:]
    buckets: dict[int, list[Part]] = {}
    for part in sorted(rest, key=_as_installed):
        buckets.setdefault(_bucket(part.name), []).append(part)
    return order([*(Unit((part,)) for part in alone), *(Unit(tuple(bucket)) for bucket in buckets.values())])


def fold(units: Sequence[Unit], files: Mapping[str, Collection[str]]) -> tuple[Unit, ...]:
    """Units that own a file of the same name become one: what the upper layer covers would be sent and stored twice,
    and which of two wins must not depend on the order of layers.

    files: by the unit's key, the paths of its files.
    """
    leader = {unit.key: unit.key for unit in units}

    def root(key: str) -> str:
        while leader[key] != key:
            key = leader[key]
        return key

    owner: dict[str, str] = {}
    for unit in units:
        for path in files[unit.key]:
            other = owner.setdefault(path, unit.key)
            if root(other) != root(unit.key):
                leader[root(unit.key)] = root(other)
    together: dict[str, list[Part]] = {}
    for unit in units:
        together.setdefault(root(unit.key), []).extend(unit.parts)
    return order(Unit(tuple(sorted(parts, key=_as_installed))) for parts in together.values())


def order(units: Iterable[Unit]) -> tuple[Unit, ...]:
    """By (stability class, name), never by size: nodes keep what lies below by the chain of layers, and two
    environments share a chain only as long as both begin alike. What holds several packages changes most: it is last.
    """
    return tuple(
        sorted(units, key=lambda unit: (len(unit.parts) > 1, max(p.stability for p in unit.parts), unit.parts[0].name))
    )


def _as_installed(part: Part) -> tuple[int, str, str]:
    """Of a file that several bring, the last one's stays: pip's packages come after conda's."""
    return part.stability, part.name, part.key


def _bucket(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % BUCKETS
