"""An image from a base, layers and changes of its config: two documents, worked out without any registry.

The same input gives the same bytes: no time of day, members sorted. OCI media types throughout.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stoker.images.failure import BuildFailed
from stoker.images.layers import Layer

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Docker's names for the same bytes.
_LAYER_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}
_EPOCH = "1980-01-02T00:00:00Z"


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image as a registry has it. place: `registry/repository` where its blobs lie."""

    place: str
    digest: str
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Raises BuildFailed (BadBaseImage) where manifest and config do not fit each other."""
        diffs = (self.config.get("rootfs") or {}).get("diff_ids") or []
        entries = self.manifest.get("layers") or []
        if len(diffs) != len(entries):
            raise BuildFailed(
                "BadBaseImage",
                f"{self.place}@{self.digest}: its config names {len(diffs)} layers and its manifest {len(entries)}; "
                "push it again with a current tool",
            )
        return tuple(
            Layer(_LAYER_TYPES.get(one["mediaType"], one["mediaType"]), one["digest"], one["size"], diff)
            for one, diff in zip(entries, diffs, strict=True)
        )

    def variable(self, name: str) -> str:
        """A variable of the image, empty where it has none."""
        return _variables(self.config).get(name, "")


@dataclass(frozen=True, slots=True)
class ConfigChanges:
    """What becomes another in the config; None leaves it, an empty tuple clears it.

    env: (name, value). path: folders put before PATH. labels: (name, value). history: lines for changes without a layer.
    """

    env: tuple[tuple[str, str], ...] = ()
    path: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    working_dir: str | None = None
    user: str | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None
    shell: tuple[str, ...] | None = None
    history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """config and manifest: the documents as they are pushed. layers: all of them, the base's first."""

    config: bytes
    manifest: bytes
    layers: tuple[Layer, ...] = field(repr=False)

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    @property
    def size(self) -> int:
        """Bytes that a node fetches at most: layers and config."""
        return len(self.config) + sum(layer.size for layer in self.layers)


def compose(base: BaseImage, layers: Sequence[Layer], changes: ConfigChanges = ConfigChanges()) -> Image:
    """The base with the layers on top and its config changed."""
    config = copy.deepcopy(dict(base.config))
    created = config.setdefault("created", _EPOCH)
    config["config"] = _changed(config.get("config") or {}, changes)
    config["rootfs"] = {
        "type": "layers",
        "diff_ids": [layer.diff_id for layer in (*base.layers, *layers)],
    }
    history = list(config.get("history") or [])
    history += [{"created": created, "created_by": line, "empty_layer": True} for line in changes.history]
    history += [{"created": created, "created_by": layer.created_by or "stoker"} for layer in layers]
    # A base without history keeps having none: a history that names only some of the layers is refused by some tools.
    if base.config.get("history") or not base.layers:
        config["history"] = history
    encoded = _canonical(config)
    everything = (*base.layers, *layers)
    manifest = _canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": sha256(encoded), "size": len(encoded)},
            "layers": [
                {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in everything
            ],
        }
    )
    return Image(encoded, manifest, everything)


def _changed(section: Mapping[str, Any], changes: ConfigChanges) -> dict[str, Any]:
    """The config's section of what a container starts with."""
    section = dict(section)
    variables = _variables({"config": section}) | dict(changes.env)
    if changes.path:
        variables["PATH"] = ":".join((*changes.path, variables.get("PATH") or DEFAULT_PATH))
    if variables:
        section["Env"] = [f"{name}={value}" for name, value in variables.items()]
    if changes.labels:
        section["Labels"] = {**(section.get("Labels") or {}), **dict(changes.labels)}
    for name, value in (
        ("WorkingDir", changes.working_dir),
        ("User", changes.user),
        ("StopSignal", changes.stop_signal),
    ):
        if value is not None:
            section[name] = value
    for name, words in (("Entrypoint", changes.entrypoint), ("Cmd", changes.cmd), ("Shell", changes.shell)):
        if words is not None:
            section[name] = list(words)
    for name, members in (("ExposedPorts", changes.exposed_ports), ("Volumes", changes.volumes)):
        if members:
            section[name] = {**(section.get(name) or {}), **{member: {} for member in members}}
    return section


def _variables(config: Mapping[str, Any]) -> dict[str, str]:
    lines = (config.get("config") or {}).get("Env") or []
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def sha256(content: bytes) -> str:
    """The digest as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _canonical(document: Any) -> bytes:
    return msgspec.json.encode(document, order="sorted")
