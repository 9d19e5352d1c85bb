"""A node: containerd and a kubelet of its own, in mount and process namespaces of their own.

The namespaces are what makes a node easy to end: when their first process is gone, the kernel has ended every
container, and no mount is left on the machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import network
from lab.certificates import Authority
from lab.control_plane import namespaces
from lab.host import LabError, cgroup_files, locked, make_cgroup, remove_cgroup, run, wait_until, write_json
from lab.state import State


@dataclass(frozen=True)
class Machine:
    """What a node is made of. `slot` is its place in the lab's address ranges; `disk` the size of a disk of its own for
    the kubelet (`256m`, in memory), or empty: the machine's."""

    name: str
    slot: int
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    disk: str = ""


def machines(state: State) -> list[Machine]:
    """The machines that were booted and not removed, with power or without."""
    found = []
    for path in sorted(state.nodes.glob("*/machine.json")):
        values = json.loads(path.read_text())
        found.append(
            Machine(values["name"], values["slot"], values["labels"], tuple(values["taints"]), values.get("disk", ""))
        )
    return found


def boot(
    state: State,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    taints: Iterable[Mapping[str, str]] = (),
    disk: str = "",
) -> Machine:
    """Starts a machine; it registers by itself with these labels and taints, in a few seconds."""
    with locked(state.folder / "nodes.lock"):
        taken = {machine.slot for machine in machines(state)}
        if (state.nodes / name).exists():
            raise LabError(f"node {name} exists already: remove it first, or choose another name")
        slot = next((n for n in range(1, network.MAX_NODES) if n not in taken), None)
        if slot is None:
            raise LabError(f"a lab has room for {network.MAX_NODES - 1} real nodes: use a NodePool of kind Kwok")
        machine = Machine(name, slot, dict(labels or {}), tuple(dict(taint) for taint in taints), disk)
        write_json(state.nodes / name / "machine.json", asdict(machine))
    _write_configs(state, machine)
    power_on(state, name)
    return machine


def power_on(state: State, name: str) -> None:
    """Starts the machine's processes; also after `power_off`, with the same disk."""
    folder = state.nodes / name
    machine = next(machine for machine in machines(state) if machine.name == name)
    network.add_node_address(state.network, machine.slot)
    for part in ("", "/runtime"):
        make_cgroup(f"{_cgroup(state, name)}{part}")
    state.processes.start(_process(name), [*namespaces(), "sh", folder / "boot.sh"])


def power_off(state: State, name: str) -> None:
    """As if the cable was pulled: no process has time for anything, the Node object stays."""
    state.processes.end([_process(name)], grace_seconds=0)
    remove_cgroup(_cgroup(state, name))


def remove(state: State, name: str) -> None:
    """Ends the machine and deletes its disk; the Node object is the caller's."""
    folder = state.nodes / name
    slots = [machine.slot for machine in machines(state) if machine.name == name]
    power_off(state, name)
    for slot in slots:
        network.remove_node_address(state.network, slot)
    shutil.rmtree(folder, ignore_errors=True)


def running(state: State, name: str) -> bool:
    process = state.processes.get(_process(name))
    return process is not None and process.alive()


def command_on(state: State, name: str) -> list[str]:
    """The words before a command that is to run on the node, such as `ctr -n k8s.io containers ls`."""
    process = state.processes.get(_process(name))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split() if process else []
    if not children:
        raise LabError(f"node {name} is off")
    return ["nsenter", f"--target={children[0]}", "--mount", "--pid", "--"]


def wait_registered(state: State, name: str, *, seconds: float = 90) -> None:
    kubectl = (state.bin / "kubectl", f"--kubeconfig={state.kubeconfig}")

    def ready() -> bool:
        query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return run(*kubectl, "get", "node", name, "--ignore-not-found", "-o", query).strip() == "True"

    log = state.processes.log(_process(name))
    wait_until(ready, what=f"a ready node {name}", seconds=seconds, every=0.2, log=log)


def kubelet_folder(state: State, name: str) -> Path:
    """Where the kubelet keeps the volumes of pods: the file system that Kubernetes calls nodefs."""
    return state.nodes / name / "kubelet"


def _process(name: str) -> str:
    return f"node-{name}"


def _cgroup(state: State, name: str) -> str:
    return f"{state.cgroup}/{name}"


def _write_configs(state: State, machine: Machine) -> None:
    folder, net, name = state.nodes / machine.name, state.network, machine.name
    for part in ("cni", "certs.d", "kubelet", "log", "addresses"):
        (folder / part).mkdir(parents=True, exist_ok=True)

    first, last = net.node_pods(machine.slot)
    write_json(
        folder / "cni" / "10-lab.conflist",
        {
            "cniVersion": "1.0.0",
            "name": "lab",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": net.bridge,
                    # The bridge has its address already; the plugin would insist on giving it this one.
                    "isGateway": False,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(folder / "addresses"),
                        "ranges": [
                            [{"subnet": net.pods, "rangeStart": first, "rangeEnd": last, "gateway": net.address}]
                        ],
                        "routes": [{"dst": "0.0.0.0/0"}, {"dst": net.services, "gw": net.proxy}],
                    },
                }
            ],
        },
    )
    registry = folder / "certs.d" / state.registry
    registry.mkdir(parents=True, exist_ok=True)
    (registry / "hosts.toml").write_text(
        f'server = "http://{state.registry}"\n\n[host."http://{state.registry}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    (folder / "containerd.toml").write_text(
        f"""version = 2
root = "{folder}/containerd"
state = "/run/containerd/state"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{state.registry}/lab/pause:1"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
max_concurrent_downloads = 4
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{folder}/certs.d"
"""
    )

    authority = Authority(state.certificates)
    pair = authority.issue(f"node-{name}", user=f"system:node:{name}", group="system:nodes")
    authority.kubeconfig(folder / "kubelet.kubeconfig", state.api_server, pair)
    write_json(
        folder / "kubelet.yaml",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": net.node(machine.slot),
            "port": 10250,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.pair.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "clusterDomain": "cluster.local",
            "clusterDNS": [net.address],
            "resolvConf": "",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{_cgroup(state, name)}",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": ["pods"],
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": True,
            # How full a pod's volumes are is looked at so often; a minute is Kubernetes' own, and long for a test.
            "volumeStatsAggPeriod": "10s",
            "makeIPTablesUtilChains": False,
            "podLogsDir": "/var/log/pods",
            "volumePluginDir": str(folder / "kubelet" / "volumeplugins"),
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            # The disk and memory are the machine's: a test must not be evicted for what others use of them.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "20%" if machine.disk else "1%",
                "imagefs.available": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "shutdownGracePeriod": "0s",
            "providerID": f"stoker-lab://{state.name}/{name}",
            "registerWithTaints": [dict(taint) for taint in machine.taints],
        },
    )
    # fmt: off
    kubelet = [
        str(state.bin / "kubelet"), f"--config={folder / 'kubelet.yaml'}",
        f"--kubeconfig={folder / 'kubelet.kubeconfig'}", f"--root-dir={kubelet_folder(state, name)}",
        f"--hostname-override={name}", f"--node-ip={net.node(machine.slot)}",
        *([f"--node-labels={','.join(f'{key}={value}' for key, value in machine.labels.items())}"] if machine.labels else []),
    ]
    # fmt: on
    own_disk = f"mount -t tmpfs -o size={machine.disk} node {kubelet_folder(state, name)}" if machine.disk else ""
    # Shims inherit containerd's cgroup, so its own keeps the pods' groups clean.
    join_cgroup = "\n".join(f"echo $$ > {file}" for file in cgroup_files(f"{_cgroup(state, name)}/runtime"))
    (folder / "boot.sh").write_text(
        f"""set -e
mount --make-rshared /
# Sockets, network leases and logs have fixed places: the node sees its own there.
mkdir -p /run/containerd /var/lib/cni
mount -t tmpfs -o mode=0755 node /run/containerd
mount -t tmpfs -o mode=0755 node /var/lib/cni
mount --bind {folder}/log /var/log
{own_disk}
(
{join_cgroup}
exec containerd --config {folder}/containerd.toml
) &
while ! [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
{" ".join(f"'{word}'" for word in kubelet)} &
wait
"""
    )
