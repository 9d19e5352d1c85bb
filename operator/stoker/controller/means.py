"""With what a namespace's environments are found and built: what its Workspace says, and the chart's values for the rest."""

from collections.abc import Iterable

from stoker.api.workspace import GlobalRegistry, Mirrors, WorkspaceSpec
from stoker.controller.config import Config
from stoker.core.environment import buildkit, request
from stoker.core.environment.means import Builder, Means
from stoker.core.plan import RegistryPlace


def means_of(namespace: str, spec: WorkspaceSpec, config: Config) -> Means:
    """spec: of the namespace's Workspace; an empty one where it has none."""
    mirrors = spec.mirrors or config.mirrors
    return Means(
        registry=_registry(namespace, spec, config),
        trusted=tuple(_places(spec.global_registries or config.global_registries, config)),
        mirrors=_mirrors(mirrors),
        index_secret=mirrors.secret_ref.name if mirrors.secret_ref else "",
        service_account=(spec.registry.service_account_name or "") if spec.registry else "",
        signing_secret=spec.signing.secret_ref.name if spec.signing else "",
        buildkit=buildkit.address(namespace, config.buildkit, spec.buildkit.address if spec.buildkit else ""),
        insecure=tuple(sorted(config.insecure_registries)),
        addresses=tuple(sorted(config.registry_addresses.items())),
        builder=Builder(
            image=config.builder_image,
            resources=config.builder_resources,
            at_a_time=config.builds_per_namespace,
            timeout_seconds=config.build_timeout_seconds,
            pull_secrets=config.image_pull_secrets,
            node_selector=config.builder_node_selector,
            tolerations=config.builder_tolerations,
        ),
    )


def _registry(namespace: str, spec: WorkspaceSpec, config: Config) -> RegistryPlace | None:
    own = spec.registry
    if own is not None:
        return _place(own.url, own.secret_ref.name if own.secret_ref else "", own.insecure, config)
    if not config.registry_url:
        return None
    # No two namespaces share a place: what one pushes another would run.
    return _place(f"{config.registry_url}/{namespace}", config.registry_secret, False, config)


def _places(registries: Iterable[GlobalRegistry], config: Config) -> Iterable[RegistryPlace]:
    for one in registries:
        yield _place(one.url, one.secret_ref.name if one.secret_ref else "", one.insecure, config)


def _place(url: str, secret: str, insecure: bool, config: Config) -> RegistryPlace:
    host = url.partition("/")[0]
    return RegistryPlace(url.rstrip("/"), secret, insecure or host in config.insecure_registries)


def _mirrors(mirrors: Mirrors) -> request.Mirrors:
    return request.Mirrors(
        pypi=mirrors.pypi or "", conda=dict(mirrors.conda), images=dict(mirrors.images), python=mirrors.python or ""
    )
