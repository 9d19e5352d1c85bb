"""The lab's own network: one bridge for nodes and pods, and a namespace beside it that turns Service addresses into pods.

    10.X.0.1         the machine itself: API server, registry, object store and DNS listen here, alike for host, nodes and pods
    10.X.0.N+1       node N (an address of the machine as well, so every node has the kubelet's usual port)
    10.X.N.0/24      the pods of node N
    10.X.255.254     kube-proxy's namespace: the way to 10.Y.0.0/16, the Services

kube-proxy has a namespace of its own because the names of its nftables tables are fixed: so two labs do not
overwrite each other's, and the machine's own rules stay untouched.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass

from lab.host import LabError, run

_LABS = 64
MAX_NODES = 250


@dataclass(frozen=True)
class Network:
    """The addresses of one lab; all follow from its number."""

    number: int
    bridge: str
    namespace: str

    @property
    def address(self) -> str:
        """Where the machine is reached from itself, from nodes and from pods."""
        return f"10.{64 + self.number}.0.1"

    @property
    def pods(self) -> str:
        return f"10.{64 + self.number}.0.0/16"

    @property
    def services(self) -> str:
        return f"10.{128 + self.number}.0.0/16"

    @property
    def kubernetes_service(self) -> str:
        return f"10.{128 + self.number}.0.1"

    @property
    def loopback(self) -> str:
        """An address of the loopback network that no other lab uses, for what only the lab itself talks to."""
        return f"127.{64 + self.number}.0.1"

    @property
    def proxy(self) -> str:
        return f"10.{64 + self.number}.255.254"

    def node(self, slot: int) -> str:
        return f"10.{64 + self.number}.0.{slot + 1}"

    def node_pods(self, slot: int) -> tuple[str, str]:
        """First and last address of a node's pods."""
        return f"10.{64 + self.number}.{slot}.1", f"10.{64 + self.number}.{slot}.254"


def claim(name: str) -> Network:
    """Takes the first free pair of address ranges, starting from one that depends on the lab's name.

    A bridge of this name is left over from a lab whose folder was deleted by hand, and goes.
    """
    digest = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    # The kernel takes 15 characters.
    bridge = f"lab-{name}" if len(name) <= 11 else f"lab-{digest % 16**10:010x}"
    down(Network(0, bridge, f"lab-{name}"))
    used = list(_used())
    for step in range(_LABS):
        network = Network((digest + step) % _LABS, bridge, f"lab-{name}")
        wanted = [ipaddress.ip_network(network.pods), ipaddress.ip_network(network.services)]
        if not any(a.overlaps(b) for a in wanted for b in used):
            return network
    raise LabError("no free address range in 10.64.0.0/10 and 10.128.0.0/10 for another lab: `python -m lab down` one")


def _used() -> Iterator[ipaddress.IPv4Network]:
    for link in json.loads(run("ip", "-json", "-4", "address")):
        for address in link.get("addr_info", []):
            yield ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
    for route in json.loads(run("ip", "-json", "-4", "route")):
        if route["dst"] != "default":
            yield ipaddress.IPv4Network(route["dst"], strict=False)


def up(network: Network) -> None:
    """Makes the bridge and the namespace that kube-proxy will work in."""
    bridge, namespace, inside = network.bridge, network.namespace, f"lab-proxy-{network.number}"
    in_namespace = ("ip", "netns", "exec", namespace)
    # With no address of its own a bridge takes that of a port, and pods lose it when that port goes.
    run("ip", "link", "add", bridge, "address", f"02:00:0a:{64 + network.number:02x}:00:01", "type", "bridge")
    run("ip", "address", "add", f"{network.address}/16", "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    run("ip", "netns", "add", namespace)
    run("ip", "link", "add", inside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    run("ip", "link", "set", inside, "master", bridge, "up")
    run("ip", "-netns", namespace, "link", "set", "lo", "up")
    run("ip", "-netns", namespace, "address", "add", f"{network.proxy}/16", "dev", "eth0")
    run("ip", "-netns", namespace, "link", "set", "eth0", "up")
    run("ip", "-netns", namespace, "route", "add", "default", "via", network.address)
    # A packet leaves by the interface it came in by; a redirect would tell the pod to go round the translation.
    settings = ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
    for setting in settings:
        key, _, value = setting.partition("=")
        run(*in_namespace, "sh", "-c", f"echo {value} > /proc/sys/{key.replace('.', '/')}")
    run("ip", "route", "add", network.services, "via", network.proxy, "dev", bridge)


def down(network: Network) -> None:
    """Removes both; says nothing about what is not there."""
    run("ip", "netns", "delete", network.namespace, check=False)
    run("ip", "link", "delete", network.bridge, check=False)


def in_proxy_namespace(network: Network) -> list[str]:
    """The words before a command that is to run in kube-proxy's namespace."""
    return ["nsenter", f"--net=/run/netns/{network.namespace}", "--"]


def add_node_address(network: Network, slot: int) -> None:
    run("ip", "address", "replace", f"{network.node(slot)}/32", "dev", network.bridge)


def remove_node_address(network: Network, slot: int) -> None:
    run("ip", "address", "delete", f"{network.node(slot)}/32", "dev", network.bridge, check=False)


def remove_leftover_links(network: Network) -> None:
    """Pod interfaces whose namespace has gone vanish with it; this is for those still on their way."""
    for link in json.loads(run("ip", "-json", "link", "show", "master", network.bridge, check=False) or "[]"):
        run("ip", "link", "delete", link["ifname"], check=False)
