"""Clients of registries for the operator: that a namespace calls one insecure holds for that namespace's place alone."""

from collections.abc import Mapping

from stoker.core.plan import RegistryPlace
from stoker.images.auth import Keyring
from stoker.images.client import RegistryClient
from stoker.images.connections import Connections
from stoker.images.registry import Registry


class Registries:
    """registry: whose sockets are shared. insecure: the hosts that speak http for everybody, by the chart's values.
    addresses: host -> `host:port` that is connected to instead."""

    def __init__(
        self, registry: Registry, user_agent: str, insecure: frozenset[str], addresses: Mapping[str, str]
    ) -> None:
        self._registry = registry
        self._user_agent = user_agent
        self._insecure = insecure
        self._addresses = addresses
        #: By host, for the places that are called insecure by a namespace alone.
        self._plain: dict[str, Connections] = {}

    def client(self, place: RegistryPlace, keyring: Keyring) -> RegistryClient:
        """A client for a place, with these credentials."""
        host = place.url.partition("/")[0]
        if not place.insecure or host in self._insecure:
            return self._registry.client(keyring)
        plain = self._plain.get(host)
        if plain is None:
            plain = self._plain[host] = Connections(
                user_agent=self._user_agent, insecure=frozenset((host,)), addresses=self._addresses, silences=1
            )
        return RegistryClient(plain, keyring)

    async def close(self) -> None:
        """Close what was opened here; the registry closes its own."""
        for one in self._plain.values():
            await one.close()
