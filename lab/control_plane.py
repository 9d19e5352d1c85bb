"""The servers of the lab: etcd and Kubernetes' own, registry, object store, DNS, kube-proxy, BuildKit."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from pathlib import Path

from lab import network
from lab.certificates import Authority, new_key
from lab.host import LabError, Progress, make_cgroup, run, wait_until, write_json
from lab.state import State

S3_ACCESS_KEY = "stoker-lab"
S3_BUCKET = "stoker"
#: A second API server that a test may have, and where it listens.
UNCACHED, UNCACHED_PORT = "kube-apiserver-uncached", 6444
_PROXY_NODE = "lab-kube-proxy"
_NODES_OF_THE_LAB = "kwok.x-k8s.io/node=fake"


def client_rate() -> int:
    """Requests per second that controller manager and scheduler may send; theirs is 20, which hides what tests look for."""
    return int(os.environ.get("STOKER_LAB_QPS") or 500)


def listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=1):
        return True


# ---------------------------------------------------------------------------------------------- certificates


def make_certificates(state: State) -> Authority:
    """One identity for each party, so that the audit log tells them apart."""
    net = state.network
    authority = Authority(state.certificates)
    authority.create()
    new_key(state.certificates / "service-account.key")
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    addresses = (
        f"IP:{net.address}",
        f"IP:{net.kubernetes_service}",
        "IP:127.0.0.1",
        "DNS:localhost",
        *(f"DNS:{name}" for name in names),
    )
    authority.issue("apiserver", user="kube-apiserver", group="system:masters", addresses=addresses)
    for name, user, group in (
        ("admin", "lab-admin", "system:masters"),
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("kube-proxy", "system:kube-proxy", ""),
        ("coredns", "lab-coredns", "system:masters"),
        ("kwok", "lab-kwok", "system:masters"),
        ("controller", "lab-controller", "system:masters"),
    ):
        path = state.kubeconfig if name == "admin" else state.certificates / f"{name}.kubeconfig"
        authority.kubeconfig(path, state.api_server, authority.issue(name, user=user, group=group))
    return authority


# ---------------------------------------------------------------------------------------------- Kubernetes


def start_etcd(state: State) -> str:
    client, peer = etcd_url(state), f"http://{state.network.loopback}:2380"
    # fmt: off
    state.processes.start("etcd", [
        state.bin / "etcd", "--name=lab", f"--data-dir={state.folder / 'etcd'}",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=lab={peer}",
        "--unsafe-no-fsync", "--quota-backend-bytes=4294967296", "--log-level=warn",
    ])
    # fmt: on
    return client


def etcd_url(state: State) -> str:
    return f"http://{state.network.loopback}:2379"


def start_api_server(state: State, etcd: str) -> None:
    policy = state.folder / "audit-policy.yaml"
    # Metadata holds verb, object, user and user agent: enough to count who wrote what.
    write_json(
        policy,
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        },
    )
    # fmt: off
    state.processes.start("kube-apiserver", [
        *_api_server(state, etcd, 6443),
        f"--audit-policy-file={policy}", f"--audit-log-path={state.audit_log}", "--audit-log-maxsize=2000",
    ])
    # fmt: on


def start_uncached_api_server(state: State) -> None:
    """A second one on the same etcd that keeps no history of its own: what etcd has dropped, it cannot serve."""
    # Without a reconciler, for the address of Service `kubernetes` is the first one's.
    flags = ["--watch-cache=false", "--endpoint-reconciler-type=none"]
    state.processes.start(UNCACHED, [*_api_server(state, etcd_url(state), UNCACHED_PORT), *flags])
    wait_for_api_server(state, UNCACHED, UNCACHED_PORT)


def _api_server(state: State, etcd: str, port: int) -> list[str | Path]:
    certificates = state.certificates
    account_key = certificates / "service-account.key"
    # fmt: off
    return [
        state.bin / "kube-apiserver", f"--etcd-servers={etcd}",
        f"--bind-address={state.network.address}", f"--advertise-address={state.network.address}",
        f"--secure-port={port}",
        f"--tls-cert-file={certificates / 'apiserver.crt'}", f"--tls-private-key-file={certificates / 'apiserver.key'}",
        f"--client-ca-file={certificates / 'ca.crt'}", "--authorization-mode=Node,RBAC", "--allow-privileged=true",
        f"--service-cluster-ip-range={state.network.services}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={account_key}", f"--service-account-signing-key-file={account_key}",
        f"--kubelet-client-certificate={certificates / 'apiserver.crt'}",
        f"--kubelet-client-key={certificates / 'apiserver.key'}", "--kubelet-preferred-address-types=InternalIP",
        "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000", "--profiling=false",
    ]
    # fmt: on


def wait_for_api_server(state: State, server: str = "kube-apiserver", port: int = 6443) -> None:
    context = ssl.create_default_context(cafile=str(state.certificates / "ca.crt"))

    log = state.processes.log(server)

    def ready() -> bool:
        for name in ("etcd", server):
            process = state.processes.get(name)
            if process is None or not process.alive():
                raise LabError(f"{name} ended early:\n{state.processes.log(name).read_text()[-2000:]}")
        connection = http.client.HTTPSConnection(state.network.address, port, context=context, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    wait_until(ready, what="a ready API server", seconds=90, log=log)


def wait_for_crds(kubectl: Path, kubeconfig: Path, *which: str, seconds: float) -> None:
    """Waits until CRDs are Established. `kubectl wait` cannot: it fails where a new CRD has no conditions yet."""

    def established() -> bool:
        found = json.loads(run(kubectl, f"--kubeconfig={kubeconfig}", "get", *which, "-o", "json"))
        crds = found["items"] if found["kind"] == "List" else [found]
        conditions = [crd.get("status", {}).get("conditions") or () for crd in crds]
        return all(
            {"Established": "True"}.items() <= {one["type"]: one["status"] for one in each}.items()
            for each in conditions
        )

    wait_until(established, what=f"custom resources served for {' '.join(which)}", seconds=seconds)


def start_controllers(state: State) -> None:
    certificates, rate = state.certificates, client_rate()
    rates = [f"--kube-api-qps={rate}", f"--kube-api-burst={rate * 2}"]
    # fmt: off
    state.processes.start("kube-controller-manager", [
        state.bin / "kube-controller-manager", f"--kubeconfig={certificates / 'controller-manager.kubeconfig'}",
        "--leader-elect=false", "--use-service-account-credentials=true", "--secure-port=0",
        f"--service-account-private-key-file={certificates / 'service-account.key'}",
        f"--root-ca-file={certificates / 'ca.crt'}", "--allocate-node-cidrs=false", *rates,
    ])
    state.processes.start("kube-scheduler", [
        state.bin / "kube-scheduler", f"--kubeconfig={certificates / 'scheduler.kubeconfig'}",
        "--leader-elect=false", "--secure-port=0", *rates,
    ])
    # fmt: on


def start_kube_proxy(state: State) -> None:
    """Turns Service addresses into pods, in the namespace that `lab.network` made for it."""
    config = state.folder / "kube-proxy.yaml"
    write_json(
        config,
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": _PROXY_NODE,
            "clientConnection": {"kubeconfig": str(state.certificates / "kube-proxy.kubeconfig")},
            "bindAddress": state.network.proxy,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # Answers must come back through this namespace, though asker and pod share a bridge.
            "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms"},
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        },
    )
    kubectl = (state.bin / "kubectl", f"--kubeconfig={state.kubeconfig}")
    # kube-proxy waits 30 s for a Node with its name and goes on without: so there is one for a moment.
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": _PROXY_NODE},
        "spec": {"unschedulable": True},
    }
    run(*kubectl, "create", "-f", "-", input=json.dumps(node))
    status = {"status": {"addresses": [{"type": "InternalIP", "address": state.network.proxy}]}}
    run(*kubectl, "patch", "node", _PROXY_NODE, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    proxy = str(state.bin / "kube-proxy")
    state.processes.start("kube-proxy", [*network.in_proxy_namespace(state.network), proxy, f"--config={config}"])
    log = state.processes.log("kube-proxy")
    wait_until(lambda: "retrieved NodeIPs" in log.read_text(), what="the start of kube-proxy", seconds=60, log=log)
    run(*kubectl, "delete", "node", _PROXY_NODE, "--wait=false")


def start_dns(state: State) -> None:
    """Answers at the bridge's address, which every pod gets as its name server."""
    corefile = state.folder / "Corefile"
    corefile.write_text(
        f"""cluster.local:53 in-addr.arpa:53 {{
    bind {state.network.address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {state.certificates / "coredns.kubeconfig"}
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    bind {state.network.address}
    errors
    forward . /etc/resolv.conf
    cache 30
}}
"""
    )
    state.processes.start("coredns", [state.bin / "coredns", "-conf", corefile])


# ---------------------------------------------------------------------------------------------- registry, object store, builds


def start_registry(state: State) -> None:
    config = state.folder / "registry.yaml"
    write_json(
        config,
        {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(state.folder / "registry")},
                "delete": {"enabled": True},
                "cache": {"blobdescriptor": "inmemory"},
            },
            "http": {"addr": state.registry},
        },
    )
    state.processes.start("registry", ["docker-registry", "serve", config])


def start_object_store(state: State, secret_key: str) -> None:
    folder = state.folder / "s3"
    # A folder below the root is a bucket; who owns the root keys may use it.
    (folder / S3_BUCKET).mkdir(parents=True, exist_ok=True)
    state.processes.start(
        "versitygw",
        [
            state.bin / "versitygw",
            f"--port={state.s3_endpoint.removeprefix('http://')}",
            f"--region={state.region}",
            "--quiet",
            "posix",
            folder,
        ],
        env={"ROOT_ACCESS_KEY": S3_ACCESS_KEY, "ROOT_SECRET_KEY": secret_key},
    )


def start_buildkit(state: State) -> None:
    """BuildKit in namespaces of its own, so that its mounts and containers end with it."""
    make_cgroup(f"{state.cgroup}/buildkit")
    config = state.folder / "buildkitd.toml"
    config.write_text(
        f"""root = "{state.folder}/buildkit"
[grpc]
address = ["unix://{buildkit_socket(state)}", "{buildkit_address(state)}"]
[frontend."gateway.v0"]
enabled = false
[worker.oci]
enabled = true
snapshotter = "overlayfs"
networkMode = "host"
defaultCgroupParent = "/{state.cgroup}/buildkit"
[worker.containerd]
enabled = false
[registry."{state.registry}"]
http = true
insecure = true
"""
    )
    script = f"mount --make-rshared / && exec {state.bin}/buildkitd --config {config}"
    state.processes.start("buildkitd", [*namespaces(), "sh", "-c", script])


def buildkit_address(state: State) -> str:
    """Where pods reach it too."""
    return f"tcp://{state.network.address}:1234"


def buildkit_socket(state: State) -> Path:
    return state.folder / "buildkit.sock"


def namespaces() -> list[str]:
    """The words before a command whose mounts and offspring shall vanish with it, however it ends."""
    return [
        "unshare",
        "--mount",
        "--propagation=slave",
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "--mount-proc",
        "--",
    ]


def start_kwok(state: State) -> None:
    # fmt: off
    state.processes.start("kwok", [
        state.bin / "kwok", f"--kubeconfig={state.certificates / 'kwok.kubeconfig'}",
        f"--config={Path(__file__).parent / 'stages.yaml'}",
        f"--manage-nodes-with-annotation-selector={_NODES_OF_THE_LAB}",
        # Without a lease of their own its nodes go NotReady after 40 s.
        "--node-lease-duration-seconds=40", f"--node-ip={state.network.address}",
        # kwok only hands these out; nothing listens there.
        "--cidr=198.18.0.0/15", "--server-address=", "--v=WARN",
    ])
    # fmt: on


def wait_for_default_account(state: State, progress: Progress) -> None:
    """Until the controller manager has made it, pods in the default namespace are refused."""
    kubectl = (state.bin / "kubectl", f"--kubeconfig={state.kubeconfig}")

    def there() -> str:
        return run(*kubectl, "get", "serviceaccount", "default", "--ignore-not-found", "-o", "name", check=False)

    wait_until(
        there, what="the default service account", seconds=60, log=state.processes.log("kube-controller-manager")
    )
    progress("kubernetes ready")
