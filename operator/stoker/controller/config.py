"""The operator's settings: from the environment, as the chart sets it, and two flags for a run outside a cluster."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stoker.api.names import SYSTEM_NAMESPACE
from stoker.api.workspace import GlobalRegistry, Mirrors
from stoker.core.environment.buildkit import Daemons, Isolation

T = TypeVar("T")


class ConfigError(Exception):
    """A setting is missing or cannot be read; the message names it and the fix."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the operator is told at its start. It reads no setting anywhere else."""

    #: STOKER_AGENT_IMAGE: image of the containers `fetch` and `ship`.
    agent_image: str
    #: STOKER_SERVER_URL: where pods reach the server.
    server_url: str
    #: STOKER_STORAGE_URL: a namespace without a Workspace stores below this URL and its own name. Empty: none does.
    storage_url: str = ""
    #: STOKER_STORAGE_ENDPOINT: URL of the S3 service; empty for AWS itself.
    storage_endpoint: str = ""
    #: STOKER_STORAGE_REGION.
    storage_region: str = "us-east-1"
    #: STOKER_NAMESPACE: the operator's own namespace.
    namespace: str = SYSTEM_NAMESPACE
    #: STOKER_JOB_NAMESPACES: the namespaces that are looked at; empty means all.
    job_namespaces: tuple[str, ...] = ()
    #: STOKER_INSECURE_REGISTRIES: `host:port` of registries that speak http.
    insecure_registries: frozenset[str] = frozenset()
    #: STOKER_REGISTRY_URL: `host/path`, as nodes reach it, of built images of namespaces without a Workspace; empty: none.
    registry_url: str = ""
    #: STOKER_REGISTRY_SECRET: Secret (dockerconfigjson) in each namespace of jobs with which that registry is written.
    registry_secret: str = ""
    #: STOKER_GLOBAL_REGISTRIES, STOKER_MIRRORS: as spec.globalRegistries and spec.mirrors of a Workspace, in JSON.
    global_registries: tuple[GlobalRegistry, ...] = ()
    mirrors: Mirrors = field(default_factory=Mirrors)
    #: STOKER_BUILDER_IMAGE: image that builds images: the operator's own.
    builder_image: str = ""
    #: STOKER_BUILDER_RESOURCES, STOKER_BUILDER_NODE_SELECTOR, STOKER_BUILDER_TOLERATIONS: of the pods of builds, in JSON.
    builder_resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    builder_node_selector: Mapping[str, str] = field(default_factory=dict)
    builder_tolerations: tuple[Mapping[str, Any], ...] = ()
    #: STOKER_BUILDS_PER_NAMESPACE: builds that run at a time in a namespace.
    builds_per_namespace: int = 4
    #: STOKER_BUILD_TIMEOUT_SECONDS: after which a try is ended.
    build_timeout_seconds: int = 3600
    #: STOKER_REGISTRY_ADDRESSES: `host=address`: where Stoker's own pods connect instead of a registry's host.
    registry_addresses: Mapping[str, str] = field(default_factory=dict)
    #: STOKER_CHECKED_REGISTRIES: `host/path` of registries from which a node is tried to pull at the start.
    checked_registries: tuple[str, ...] = ()
    #: STOKER_BUILDKIT (JSON, members as in the chart's `buildkit`) and STOKER_BUILDKIT_ADDRESS: where docker steps run.
    buildkit: Daemons = field(default_factory=Daemons)
    #: STOKER_SCRATCH_SCRUB: whether pods may empty the scratch paths of nodes (`true`).
    scratch_scrub: bool = False
    #: STOKER_DEFAULT_COMPUTE, STOKER_DEFAULT_IMAGE, STOKER_DEFAULT_TIMEOUT_SECONDS: for jobs that do not say.
    default_compute: str | None = None
    default_image: str | None = None
    default_timeout_seconds: int | None = None
    #: STOKER_IMAGE_PULL_SECRETS: names of pull secrets given to every job's pods.
    image_pull_secrets: tuple[str, ...] = ()
    #: STOKER_PODS_AFTER_SECONDS: how long the pods of a finished attempt stay.
    pods_after_seconds: int = 3600
    #: STOKER_COMPUTE_CLUSTERS_DIR: folder of ComputeCluster manifests that the operator applies.
    compute_clusters_dir: Path | None = None
    #: STOKER_KUEUE: `true` where jobs may be in queues of Kueue's.
    kueue: bool = False
    #: STOKER_WORKERS: keys that are worked on at a time.
    workers: int = 32
    #: STOKER_PROBE_ADDRESS: `host:port` of /livez, /readyz and /metrics; port 0 takes a free one.
    probe_host: str = "0.0.0.0"
    probe_port: int = 8081
    #: STOKER_LOG_LEVEL.
    log_level: str = "INFO"
    #: --kubeconfig and --context: for a run outside a cluster; without them the pod's ServiceAccount is used.
    kubeconfig: Path | None = None
    context: str | None = None


def read_config(arguments: Sequence[str], env: Mapping[str, str] = os.environ) -> Config:
    """The settings of this process; raises ConfigError that names what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m stoker.controller", description="The Stoker operator.")
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig file; missing: the pod's ServiceAccount")
    parser.add_argument("--context", help="context of the kubeconfig; missing: its current one")
    flags = parser.parse_args(arguments)
    host, _, port = env.get("STOKER_PROBE_ADDRESS", "0.0.0.0:8081").rpartition(":")
    folder = env.get("STOKER_COMPUTE_CLUSTERS_DIR")
    return Config(
        agent_image=_required(env, "STOKER_AGENT_IMAGE", "the image of fetch and ship, as `make images` prints it"),
        server_url=_required(env, "STOKER_SERVER_URL", "such as http://stoker-server.stoker-system.svc:8080"),
        storage_url=env.get("STOKER_STORAGE_URL", "").rstrip("/"),
        storage_endpoint=env.get("STOKER_STORAGE_ENDPOINT", "") or env.get("AWS_ENDPOINT_URL", ""),
        storage_region=env.get("STOKER_STORAGE_REGION", "") or env.get("AWS_REGION", "") or "us-east-1",
        namespace=env.get("STOKER_NAMESPACE", "") or SYSTEM_NAMESPACE,
        job_namespaces=_names(env, "STOKER_JOB_NAMESPACES"),
        insecure_registries=frozenset(_names(env, "STOKER_INSECURE_REGISTRIES")),
        registry_url=env.get("STOKER_REGISTRY_URL", "").rstrip("/"),
        registry_secret=env.get("STOKER_REGISTRY_SECRET", ""),
        global_registries=_json(env, "STOKER_GLOBAL_REGISTRIES", tuple[GlobalRegistry, ...], ()),
        mirrors=_json(env, "STOKER_MIRRORS", Mirrors, Mirrors()),
        builder_image=env.get("STOKER_BUILDER_IMAGE", ""),
        builder_resources=_resources(env, "STOKER_BUILDER_RESOURCES"),
        builder_node_selector=_json(env, "STOKER_BUILDER_NODE_SELECTOR", dict[str, str], {}),
        builder_tolerations=_json(env, "STOKER_BUILDER_TOLERATIONS", tuple[dict[str, Any], ...], ()),
        builds_per_namespace=_number(env, "STOKER_BUILDS_PER_NAMESPACE", 4) or 4,
        build_timeout_seconds=_number(env, "STOKER_BUILD_TIMEOUT_SECONDS", 3600) or 3600,
        registry_addresses=_pairs(env, "STOKER_REGISTRY_ADDRESSES"),
        checked_registries=_names(env, "STOKER_CHECKED_REGISTRIES"),
        buildkit=_buildkit(env),
        scratch_scrub=env.get("STOKER_SCRATCH_SCRUB", "") == "true",
        default_compute=env.get("STOKER_DEFAULT_COMPUTE") or None,
        default_image=env.get("STOKER_DEFAULT_IMAGE") or None,
        default_timeout_seconds=_number(env, "STOKER_DEFAULT_TIMEOUT_SECONDS", None),
        image_pull_secrets=_names(env, "STOKER_IMAGE_PULL_SECRETS"),
        pods_after_seconds=_number(env, "STOKER_PODS_AFTER_SECONDS", 3600) or 0,
        compute_clusters_dir=Path(folder) if folder else None,
        kueue=env.get("STOKER_KUEUE", "").strip().lower() == "true",
        workers=_number(env, "STOKER_WORKERS", 32) or 32,
        probe_host=host or "0.0.0.0",
        probe_port=int(port) if port.isdecimal() else 8081,
        log_level=env.get("STOKER_LOG_LEVEL", "INFO").upper(),
        kubeconfig=flags.kubeconfig,
        context=flags.context,
    )


def _required(env: Mapping[str, str], name: str, meaning: str) -> str:
    if value := env.get(name, "").strip():
        return value
    raise ConfigError(f"{name} is not set: {meaning}; the Helm chart sets it")


def _names(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in env.get(name, "").split(",") if part.strip())


def _pairs(env: Mapping[str, str], name: str) -> dict[str, str]:
    pairs = {}
    for part in _names(env, name):
        host, _, address = part.partition("=")
        if not host or not address:
            raise ConfigError(
                f"{name}: {part!r} is not host=address, such as registry.example.com=registry.ml.svc:5000"
            )
        pairs[host.strip()] = address.strip()
    return pairs


def _json(env: Mapping[str, str], name: str, shape: type[T], default: T) -> T:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.DecodeError as error:  # a ValidationError is one
        raise ConfigError(f"{name}: {error}; the Helm chart sets it from its values") from error


def _resources(env: Mapping[str, str], name: str) -> dict[str, dict[str, str]]:
    asked = _json(env, name, dict[str, dict[str, str | int]], {})
    return {part: {resource: str(amount) for resource, amount in amounts.items()} for part, amounts in asked.items()}


class _BuildKit(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The chart's `buildkit`. storage.size: empty for an emptyDir."""

    enabled: bool = False
    idle_seconds: float = 600.0
    image: str = ""
    isolation: Isolation = "UserNamespace"
    storage: dict[str, str] = msgspec.field(default_factory=dict)
    resources: dict[str, dict[str, str | int]] = msgspec.field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()


def _buildkit(env: Mapping[str, str]) -> Daemons:
    """Registries that speak http, or that pods reach at another address, are the daemons' too."""
    try:
        told = msgspec.json.decode(env.get("STOKER_BUILDKIT", "").strip() or "{}", type=_BuildKit)
    except msgspec.DecodeError as error:
        raise ConfigError(f"STOKER_BUILDKIT cannot be read: {error}; the Helm chart sets it") from None
    if told.enabled and not told.image:
        raise ConfigError("STOKER_BUILDKIT has no image: set buildkit.image in the chart's values")
    plain = _names(env, "STOKER_INSECURE_REGISTRIES")
    instead = _pairs(env, "STOKER_REGISTRY_ADDRESSES")
    return Daemons(
        enabled=told.enabled,
        address=env.get("STOKER_BUILDKIT_ADDRESS", "").strip(),
        idle_seconds=told.idle_seconds,
        image=told.image,
        isolation=told.isolation,
        size=told.storage.get("size", ""),
        storage_class=told.storage.get("storageClassName", ""),
        resources={name: {part: str(most) for part, most in found.items()} for name, found in told.resources.items()},
        pull_secrets=told.pull_secrets,
        node_selector=told.node_selector,
        tolerations=told.tolerations,
        registries={host: (instead.get(host, ""), host in plain) for host in sorted({*plain, *instead})},
    )


def _number(env: Mapping[str, str], name: str, default: int | None) -> int | None:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise ConfigError(f"{name}={text!r} is not a whole number")
    return int(text)
