"""Pushes the image that nodes are tried with, and says what it means when that does not work."""

from collections.abc import Sequence

from stoker.api.names import SYSTEM_NAMESPACE
from stoker.controller.config import Config
from stoker.controller.pull_secrets import PullSecrets
from stoker.controller.registry_check import CannotPush, Checked, Push
from stoker.core import registrycheck
from stoker.images import selftest
from stoker.images.auth import BadCredentials, Keyring
from stoker.images.errors import PushDenied, RegistryError, RegistryUnreachable, RepositoryMissing, Unauthorized
from stoker.images.registry import Registry
from stoker.kube.errors import NotFound, Rejected


def checked(config: Config, secrets: Sequence[str], version: str) -> tuple[Checked, ...]:
    """The registries to try. The one that the chart brought is known by its address on the nodes' loopback."""
    found = []
    for url in config.checked_registries:
        host = url.partition("/")[0]
        address, insecure = config.registry_addresses.get(host, ""), host in config.insecure_registries
        settings = registrycheck.settings_of(url, address, insecure, secrets, version)
        found.append(Checked(url, host.startswith("127."), settings))
    return tuple(found)


def pushing(registry: Registry, pull_secrets: PullSecrets, namespace: str, secrets: Sequence[str]) -> Push:
    """secrets: names of Secrets in the namespace; those that are not there, or may not be read, count for nothing: a
    registry that needs them says so."""

    async def push(url: str) -> str:
        host = url.partition("/")[0]
        try:
            keyring = await _keyring(pull_secrets, namespace, secrets)
            return await selftest.push(registry.client(keyring), f"{url}/{registrycheck.REPOSITORY}")
        except BadCredentials as error:
            raise CannotPush("BadCredentials", str(error), "make that Secret anew") from error
        except RegistryError as error:
            raise cannot_push(host, error) from error

    return push


async def _keyring(pull_secrets: PullSecrets, namespace: str, secrets: Sequence[str]) -> Keyring:
    keyring = Keyring()
    for name in secrets:
        try:
            keyring += await pull_secrets.keyring(namespace, (name,))
        except (NotFound, Rejected):
            continue
    return keyring


def cannot_push(host: str, error: RegistryError) -> CannotPush:
    """What an error of the registry means to the person who installed Stoker."""
    words = str(error)
    if isinstance(error, PushDenied | Unauthorized):
        fix = (
            f"have a Secret with credentials that may push to {host} in namespace {SYSTEM_NAMESPACE} and "
            "name it in registry.secretName, or give the operator's ServiceAccount an identity that may"
        )
        return CannotPush("PushUnauthorized", words, fix)
    if isinstance(error, RepositoryMissing):
        return CannotPush(
            "RepositoryMissing", words, f"make the repository {registrycheck.REPOSITORY} below registry.url"
        )
    if "HTTP request to an HTTPS server" in words:
        return CannotPush("SpeaksHttps", words, f"take {host} out of insecureRegistries")
    if isinstance(error, RegistryUnreachable):
        if "[SSL" in words:  # aiohttp names ssl in all of its messages
            fix = f"if {host} speaks http, list it in insecureRegistries; else give it a certificate that is known"
            return CannotPush("NoTls", words, fix)
        fix = f"let pods in namespace {SYSTEM_NAMESPACE} reach {host}, or set registry.inClusterAddress"
        return CannotPush("RegistryUnreachable", words, fix)
    return CannotPush("PushFailed", words, "see the registry's log")
