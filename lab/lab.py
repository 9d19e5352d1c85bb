"""A lab as its users see it: start it, use it, end it."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import binaries, control_plane, images, network, node
from lab.controller import TAKEN_BACK_AT
from lab.host import (
    PACKAGES,
    LabError,
    Process,
    Progress,
    locked,
    remove_cgroup,
    remove_tree,
    require_packages,
    require_root,
    run,
    wait_until,
    write_json,
)
from lab.packages import Packages
from lab.packages import ensure as ensure_packages
from lab.state import State, check_name, read, read_network, root

#: What must be alive for a lab to count as running.
_SERVERS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
    "registry",
    "versitygw",
    "buildkitd",
    "kwok",
    "controller",
)
_RESOURCES = Path(__file__).parent / "nodepool-crd.yaml"


def say(line: str) -> None:
    """Prints one line at once, also into a pipe."""
    print(line, flush=True)


@dataclass(frozen=True)
class S3:
    """How to reach the lab's object store, alike from the machine, from nodes and from pods."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str
    bucket: str


@dataclass(frozen=True)
class Lab:
    """A running lab."""

    name: str
    kubeconfig: Path
    registry: str
    s3: S3
    audit_log: Path
    state_dir: Path
    bridge_address: str
    api_server: str
    bin: Path
    images: dict[str, str]
    state: State

    @classmethod
    def load(cls, name: str = "stoker") -> Lab:
        """The lab that `up` started, from its state file."""
        check_name(name)
        saved, numbers = read(name), read_network(name)
        if saved is None or numbers is None:
            raise LabError(f"no lab named {name} is up: python3 -m lab up --name {name}")
        state = State(name, numbers)
        found = saved["images"]
        assert isinstance(found, dict)
        return cls(
            name=name,
            kubeconfig=state.kubeconfig,
            registry=state.registry,
            s3=S3(
                endpoint=state.s3_endpoint,
                region=state.region,
                access_key=str(saved["access_key"]),
                secret_key=str(saved["secret_key"]),
                bucket=control_plane.S3_BUCKET,
            ),
            audit_log=state.audit_log,
            state_dir=state.folder,
            bridge_address=numbers.address,
            api_server=state.api_server,
            bin=state.bin,
            images=found,
            state=state,
        )

    @property
    def buildkit(self) -> str:
        """Address of the BuildKit on the machine, alike for the machine and for pods."""
        return control_plane.buildkit_address(self.state)

    def kubectl(self, *args: str, input: str | None = None) -> str:
        """Runs kubectl as cluster administrator and returns what it printed."""
        return run(self.bin / "kubectl", f"--kubeconfig={self.kubeconfig}", *args, input=input)

    def established(self, *which: str, seconds: float = 60) -> None:
        """Waits until the API server serves these kinds. which: the CRDs, as `kubectl get` takes them ("-f", PATH)."""
        control_plane.wait_for_crds(self.bin / "kubectl", self.kubeconfig, *which, seconds=seconds)

    def helm(self, *args: str) -> str:
        return run(self.bin / "helm", f"--kubeconfig={self.kubeconfig}", *args)

    def build(
        self,
        context: Path,
        *,
        tag: str,
        dockerfile: Path | None = None,
        target: str | None = None,
        build_args: Mapping[str, str] | None = None,
        contexts: Mapping[str, Path] | None = None,
    ) -> str:
        """Builds with BuildKit, pushes as `<registry>/<tag>` and returns `<registry>/<name>@sha256:...`.

        `dockerfile` is `context/Dockerfile` unless given. `contexts` replace stages or FROM names by local folders. RUN steps have the machine's network.
        """
        file = dockerfile or context / "Dockerfile"
        socket = control_plane.buildkit_socket(self.state)
        wait_until(socket.exists, what="BuildKit's socket", seconds=30, log=self.state.processes.log("buildkitd"))
        reference = f"{self.registry}/{tag}"
        with tempfile.NamedTemporaryFile(suffix=".json") as metadata:
            # fmt: off
            command = [
                self.bin / "buildctl", f"--addr=unix://{socket}", "build", "--progress=plain",
                "--frontend=dockerfile.v0", f"--local=context={context}", f"--local=dockerfile={file.parent}",
                f"--opt=filename={file.name}", f"--output=type=image,name={reference},push=true",
                f"--metadata-file={metadata.name}",
            ]
            # fmt: on
            if target:
                command.append(f"--opt=target={target}")
            command += [f"--opt=build-arg:{key}={value}" for key, value in (build_args or {}).items()]
            for number, (name, folder) in enumerate((contexts or {}).items()):
                command += [f"--opt=context:{name}=local:named-{number}", f"--local=named-{number}={folder}"]
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            if done.returncode != 0:
                raise LabError(f"the build of {tag} failed:\n{done.stderr[-6000:]}")
            digest = json.loads(Path(metadata.name).read_text())["containerimage.digest"]
        return f"{reference.rpartition(':')[0] if ':' in tag else reference}@{digest}"

    def packages(self, progress: Progress = say) -> Packages:
        """A package index and a conda channel on the bridge, where pods reach them; started when first asked for."""
        served = Packages(self.state.packages)
        folder = ensure_packages(progress)
        process = self.state.processes.get("packages")
        if process is None or not process.alive():
            host, _, port = served.url.removeprefix("http://").partition(":")
            self.state.processes.start(
                "packages",
                [sys.executable, "-m", "lab.packages", "serve", "--host", host, "--port", port, "--folder", folder],
                cwd=Path(__file__).parent.parent,
            )
            wait_until(
                lambda: control_plane.listening(f"{host}:{port}"),
                what="the package index",
                seconds=20,
                log=self.state.processes.log("packages"),
            )
        return served

    def slim_image(self, progress: Progress = say) -> str:
        """lab/slim:1 in the registry, made and pushed when it is not there yet."""
        layer = images.ensure(images.SLIM, progress)
        return images.push(self.registry, "lab/slim", "1", layer, {"Cmd": ["/bin/sh"]})

    def image_of(self, recipe: images.Recipe, progress: Progress = say) -> str:
        """A recipe's image in the registry, made and pushed when it is not there yet."""
        layer = images.ensure(recipe, progress)
        return images.push(self.registry, f"lab/{recipe.name}", "1", layer, {"Cmd": ["/bin/sh"]})

    def boot_node(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        taints: Iterable[Mapping[str, str]] = (),
        wait: bool = True,
    ) -> None:
        """Boots a real node outside of any pool. `taints` are {key, value, effect}."""
        node.boot(self.state, name, labels=labels, taints=taints)
        if wait:
            node.wait_registered(self.state, name)

    def power_off(self, name: str) -> None:
        """Pulls the node's cable; its Node object stays and turns NotReady in its own time."""
        node.power_off(self.state, name)

    def power_on(self, name: str) -> None:
        node.power_on(self.state, name)

    def remove_node(self, name: str) -> None:
        """Ends the machine for good and deletes its Node object."""
        node.remove(self.state, name)
        self.kubectl("delete", "node", name, "--ignore-not-found", "--wait=false")

    def take_back(self, name: str, *, notice_seconds: float, taint: str) -> None:
        """Has the cloud take a pool's machine back: `taint` (`KEY:EFFECT`) tells at once, as a node termination handler puts
        it there; after the notice the machine ends without a further word, and its pool brings another."""
        self.kubectl("annotate", "node", name, f"{TAKEN_BACK_AT}={time.time() + notice_seconds:.1f}")
        self.kubectl("taint", "node", name, taint)

    def fill_disk(self, name: str) -> None:
        """Takes all but a tenth of the disk of a node that has one of its own, as if others had written there."""
        folder = node.kubelet_folder(self.state, name)
        disk = next(machine.disk for machine in node.machines(self.state) if machine.name == name)
        if not disk:
            raise LabError(f"node {name} is on the machine's disk, which is not to be filled: give its NodePool a disk")
        free, size = self.on_node(name, "stat", "--file-system", "--format=%a %b", str(folder)).split()
        blocks = max(0, int(free) - int(size) // 10)
        self.on_node(name, "fallocate", f"--length={blocks * 4096}", str(folder / "filler"))

    def on_node(self, name: str, *argv: str) -> str:
        """Runs a command on a real node, such as `lab.on_node("system-0", "ctr", "-n", "k8s.io", "images", "ls")`."""
        return run(*node.command_on(self.state, name), *argv)

    @contextmanager
    def uncached_api_server(self) -> Iterator[str]:
        """The URL of a second API server while the block runs. It serves watches from etcd itself, so that what was
        compacted there is gone; the first one may still have it in memory."""
        control_plane.start_uncached_api_server(self.state)
        try:
            yield f"https://{self.bridge_address}:{control_plane.UNCACHED_PORT}"
        finally:
            self.state.processes.end([control_plane.UNCACHED], grace_seconds=0)

    def compact(self) -> int:
        """Drops etcd's history up to now; returns the revision before which nothing is left."""
        etcd = control_plane.etcd_url(self.state)
        # Any read tells the newest revision; this key is never there.
        seen = _post(f"{etcd}/v3/kv/range", {"key": base64.b64encode(b"lab").decode()})
        revision = int(seen["header"]["revision"])
        _post(f"{etcd}/v3/kv/compaction", {"revision": revision, "physical": True})
        return revision

    def nodes(self) -> list[str]:
        """The real nodes that have power."""
        return [m.name for m in node.machines(self.state) if node.running(self.state, m.name)]


def _post(url: str, body: Mapping[str, object]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        read: dict[str, Any] = json.load(answer)
    return read


def up(name: str = "stoker", *, progress: Progress = say, nodes: int = 0) -> Lab:
    """Starts a lab, or returns the running one. `nodes` real nodes named system-0, ... are there when it returns."""
    check_name(name)
    require_root()
    start = time.monotonic()
    with locked(root() / f"{name}.lock"):
        if not _runs(name):
            require_packages(progress)
            with ThreadPoolExecutor() as pool:
                base_layer = pool.submit(images.ensure, images.BASE, progress)
                programs = binaries.ensure(progress)
                base = base_layer.result()
            _end(name)
            try:
                _start(name, programs, base, progress, nodes)
            except BaseException:
                progress(f"lab        {name} did not come up; its logs stay in {root() / name / 'logs'}")
                _stop_processes(name)
                raise
        lab = Lab.load(name)
        wanted = [f"system-{index}" for index in range(nodes)]
        for missing in sorted(set(wanted) - {machine.name for machine in node.machines(lab.state)}):
            node.boot(lab.state, missing)
        for system in wanted:
            node.wait_registered(lab.state, system)
    progress(f"lab        {name} is up after {time.monotonic() - start:.1f} s: export KUBECONFIG={lab.kubeconfig}")
    return lab


def down(name: str = "stoker", *, progress: Progress = say) -> None:
    """Ends a lab and everything that it put on this machine but the cache."""
    check_name(name)
    require_root()
    with locked(root() / f"{name}.lock"):
        found = (root() / name).exists()
        _end(name)
    progress(f"lab        {name} is {'down' if found else 'not up'}")


def announce(name: str = "stoker", *, progress: Progress = say) -> None:
    """Says what `up` changes on this machine, before it does."""
    require_root()
    for line in (
        f"packages   installed if missing, their services off: {', '.join(sorted(PACKAGES))}",
        f"files      {root()} (deleted by down), {binaries.cache()} (kept)",
        f"network    bridge lab-{name}, a network namespace, one route; servers listen on the bridge and on loopback only",
        f"processes  etcd, Kubernetes, registry, object store, nodes; cgroups below stoker-lab/{name}",
        "kernel     kubelets set vm.overcommit_memory, vm.panic_on_oom, kernel.panic, kernel.panic_on_oops, as on any node",
    ):
        progress(line)


def status(name: str) -> list[Process]:
    """Every process of a lab that was started and not ended."""
    numbers = read_network(name)
    return State(name, numbers).processes.all() if numbers else []


def _runs(name: str) -> bool:
    if read(name) is None:
        return False
    alive = {process.name for process in status(name) if process.alive()}
    return alive.issuperset(_SERVERS)


def _start(name: str, programs: Mapping[str, Path], base: images.Layer, progress: Progress, nodes: int) -> None:
    with locked(root() / "network.lock"):
        net = network.claim(name)
        state = State(name, net)
        state.folder.mkdir(parents=True, mode=0o755)
        # First of all: whoever cleans up after us must know what to look for.
        write_json(state.folder / "network.json", asdict(net))
        progress(
            f"network    bridge {net.bridge} at {net.address}/16, Services {net.services}, namespace {net.namespace}"
        )
        network.up(net)
    state.bin.mkdir()
    for program, path in programs.items():
        (state.bin / program).symlink_to(path)
    control_plane.make_certificates(state)
    etcd = control_plane.start_etcd(state)
    control_plane.start_api_server(state, etcd)
    secret_key = secrets.token_hex(20)
    control_plane.start_registry(state)
    control_plane.start_object_store(state, secret_key)

    with ThreadPoolExecutor() as pool:
        pushed = pool.submit(_push_images, state, base)
        control_plane.wait_for_api_server(state)
        progress(f"kubernetes API server {state.api_server}")
        control_plane.start_controllers(state)
        kubectl = (state.bin / "kubectl", f"--kubeconfig={state.kubeconfig}")
        pools = pool.submit(run, *kubectl, "apply", "--server-side", "-f", str(_RESOURCES))
        proxy = pool.submit(control_plane.start_kube_proxy, state)
        control_plane.start_dns(state)
        control_plane.start_kwok(state)
        pause = pushed.result()
        for index in range(nodes):
            node.boot(state, f"system-{index}")
        control_plane.start_buildkit(state)
        pools.result()
        control_plane.wait_for_crds(state.bin / "kubectl", state.kubeconfig, "crd/nodepools.lab.stoker.dev", seconds=30)
        state.processes.start(
            "controller", [sys.executable, "-m", "lab.controller", name], cwd=Path(__file__).parent.parent
        )
        proxy.result()
        control_plane.wait_for_default_account(state, progress)
        for address in (state.s3_endpoint.removeprefix("http://"), f"{net.address}:53"):
            wait_until(lambda a=address: control_plane.listening(a), what=f"a server at {address}", seconds=30)  # type: ignore[misc]
        progress(f"registry   {state.registry} (http), object store {state.s3_endpoint}")
        state.save(access_key=control_plane.S3_ACCESS_KEY, secret_key=secret_key, images=pause)


def _push_images(state: State, base: images.Layer) -> dict[str, str]:
    wait_until(
        lambda: control_plane.listening(state.registry),
        what="a registry",
        seconds=30,
        log=state.processes.log("registry"),
    )
    small = images.busybox_layer(state.folder / "busybox")
    images.push(state.registry, "lab/pause", "1", small, {"Entrypoint": ["/bin/sleep", "2147483647"]})
    return {
        "busybox": images.push(state.registry, "lab/busybox", "1", small, {"Cmd": ["/bin/sh"]}),
        "base": images.push(state.registry, "lab/base", "1", base, {"Cmd": ["/usr/bin/python3"]}),
    }


def _stop_processes(name: str) -> None:
    """Ends what a lab started and takes it off the network; its files stay."""
    numbers = read_network(name)
    if numbers is None:
        return
    state = State(name, numbers)
    names = [process.name for process in state.processes.all()]
    # The controller first, or it would boot the nodes again.
    state.processes.end([n for n in names if n == "controller"])
    state.processes.end([n for n in names if n.startswith("node-")], grace_seconds=0)
    state.processes.end([n for n in names if n != "controller" and not n.startswith("node-")])
    network.remove_leftover_links(numbers)
    network.down(numbers)
    remove_cgroup(state.cgroup)


def _end(name: str) -> None:
    _stop_processes(name)
    if (root() / name).exists():
        remove_tree(root() / name)
