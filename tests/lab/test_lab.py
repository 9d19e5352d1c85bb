"""The lab keeps its promises: real nodes that come and go, Services, Kwok nodes, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, LabError, down, up
from lab.controller import DELETE_MARK, victims
from lab.lab import status
from tests.support import labs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
NAME = "lab-test"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield labs.running(NAME, nodes=0)
    labs.end(NAME)


@pytest.fixture(scope="module")
def pool(lab: Lab) -> str:
    """A pool of two real nodes, booted by raising its scale from zero."""
    pool = {"apiVersion": "lab.stoker.dev/v1", "kind": "NodePool", "metadata": {"name": "real"}}
    taint = {"key": "dedicated", "value": "real", "effect": "NoSchedule"}
    apply(lab, {**pool, "spec": {"replicas": 0, "labels": {"pool": "real"}, "taints": [taint]}})
    lab.kubectl("scale", "nodepools.lab.stoker.dev", "real", "--replicas=2")
    lab.kubectl("wait", "nodepools.lab.stoker.dev/real", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s")
    return "real"


def apply(lab: Lab, *manifests: dict[str, Any]) -> None:
    lab.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


def job(name: str, pool: str, template: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pod = {
        "restartPolicy": "Never",
        "nodeSelector": {"pool": pool},
        "tolerations": [{"operator": "Exists"}],
        **template,
    }
    annotations = pod.pop("annotations", {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"annotations": annotations}, "spec": pod}, **spec},
    }


def eventually(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.2)


def nodes(lab: Lab) -> set[str]:
    return set(lab.kubectl("get", "nodes", "-o", "name").replace("node/", "").split())


def test_a_running_lab_is_returned_as_it_is(lab: Lab) -> None:
    before = {process.name: process.pid for process in status(NAME)}

    assert lab == up(NAME)
    assert before == {process.name: process.pid for process in status(NAME)}


def test_a_job_with_init_sidecar_and_main_completes_on_a_real_node(lab: Lab, pool: str) -> None:
    shared = [{"name": "shared", "mountPath": "/shared"}]
    small = f"{lab.registry}/lab/busybox:1"
    apply(
        lab,
        job(
            "trio",
            pool,
            {
                "volumes": [{"name": "shared", "emptyDir": {}}],
                "initContainers": [
                    {
                        "name": "ship",
                        "image": small,
                        "restartPolicy": "Always",
                        "command": ["sh", "-c", "trap 'echo shipped; exit' TERM; while :; do sleep 0.1; done"],
                    },
                    {
                        "name": "fetch",
                        "image": small,
                        "command": ["sh", "-c", "echo fetched > /shared/f"],
                        "volumeMounts": shared,
                    },
                ],
                "containers": [
                    {
                        "name": "main",
                        "image": lab.images["base"],
                        "command": ["python3", "-c", "import sklearn; print(open('/shared/f').read())"],
                        "volumeMounts": shared,
                        "resources": {"limits": {"memory": "512Mi"}},
                    }
                ],
            },
        ),
    )
    lab.kubectl("wait", "job/trio", "--for=condition=Complete", "--timeout=90s")

    assert lab.kubectl("logs", "job/trio", "-c", "main").strip() == "fetched"
    assert lab.kubectl("logs", "job/trio", "-c", "ship").strip() == "shipped"


def test_two_pods_on_two_nodes_reach_each_other_by_name_and_by_service(lab: Lab, pool: str) -> None:
    script = """
import http.server, os, threading, time, urllib.request
class Hello(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["JOB_COMPLETION_INDEX"].encode())
threading.Thread(target=http.server.ThreadingHTTPServer(("", 8000), Hello).serve_forever, daemon=True).start()
other = 1 - int(os.environ["JOB_COMPLETION_INDEX"])
def get(url):
    for _ in range(100):
        try: return urllib.request.urlopen(url, timeout=2).read().decode()
        except OSError as error: last = error; time.sleep(0.2)
    raise last
print("peer", get(f"http://duo-{other}.duo.default.svc.cluster.local:8000"))
seen = set()
while seen != {"0", "1"}: seen.add(get("http://web.default:80"))
print("service", sorted(seen))
time.sleep(3)
"""
    selector = {"job-name": "duo"}
    service = {"apiVersion": "v1", "kind": "Service"}
    headless = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    apart = {"labelSelector": {"matchLabels": selector}, "topologyKey": "kubernetes.io/hostname"}
    apply(
        lab,
        {**service, "metadata": {"name": "duo"}, "spec": headless},
        {
            **service,
            "metadata": {"name": "web"},
            "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": 8000}]},
        },
        job(
            "duo",
            pool,
            {
                "subdomain": "duo",
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
                "containers": [
                    {"name": "main", "image": lab.images["base"], "command": ["python3", "-u", "-c", script]}
                ],
            },
            completions=2,
            parallelism=2,
            completionMode="Indexed",
        ),
    )
    lab.kubectl("wait", "job/duo", "--for=condition=Complete", "--timeout=90s")

    logs = lab.kubectl("logs", "-l", "job-name=duo")
    assert sorted(logs.split("\n")[:-1]) == ["peer 0", "peer 1", "service ['0', '1']", "service ['0', '1']"]


def test_a_claim_becomes_a_folder_on_the_pods_node(lab: Lab, pool: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "scratch"}, "spec": spec}
    main = {
        "name": "main",
        "image": lab.images["busybox"],
        "command": ["sh", "-c", "touch /scratch/here"],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "securityContext": {"runAsUser": 1000},
    }
    volume = {"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch"}}
    apply(lab, claim, job("claims", pool, {"volumes": [volume], "containers": [main]}))
    lab.kubectl("wait", "job/claims", "--for=condition=Complete", "--timeout=60s")

    assert [path.name for path in (lab.state_dir / "volumes").glob("*/*")] == ["here"]
    lab.kubectl("delete", "job/claims", "pvc/scratch")
    eventually(lambda: not list((lab.state_dir / "volumes").iterdir()))


def test_lowering_the_scale_removes_the_marked_node(lab: Lab, pool: str) -> None:
    lab.kubectl("annotate", "node", "real-0", f"{DELETE_MARK}=yes")
    lab.kubectl("scale", "nodepools.lab.stoker.dev", pool, "--replicas=1")

    eventually(lambda: "real-0" not in nodes(lab))
    eventually(lambda: "real-0" not in lab.nodes())
    assert "real-1" in nodes(lab)


def test_marked_nodes_go_first_then_unregistered_machines_then_the_newest() -> None:
    plain, marked = {"name": "p-0"}, {"name": "p-1", "annotations": {DELETE_MARK: "yes"}}
    seen: list[dict[str, Any]] = [{"metadata": plain}, {"metadata": marked}, {"metadata": {"name": "p-10"}}]

    assert victims(seen, {"p-0", "p-1", "p-2", "p-10"}, 4) == ["p-1", "p-2", "p-10", "p-0"]


def test_a_node_that_lost_power_stays_as_an_object(lab: Lab) -> None:
    lab.boot_node("single")
    lab.power_off("single")

    assert "single" not in lab.nodes()
    assert "single" in nodes(lab)
    lab.remove_node("single")
    eventually(lambda: "single" not in nodes(lab))


@pytest.mark.parametrize(("code", "condition"), [("0", "Complete"), ("3", "Failed")])
def test_a_pod_on_a_kwok_node_ends_as_its_annotations_say(lab: Lab, code: str, condition: str) -> None:
    pool = {"apiVersion": "lab.stoker.dev/v1", "kind": "NodePool", "metadata": {"name": "fake"}}
    apply(lab, {**pool, "spec": {"replicas": 2, "kind": "Kwok", "labels": {"pool": "fake"}, "capacity": {"cpu": "3"}}})
    name = f"fake-{code}"
    # fmt: off
    apply(lab, job(name, "fake", {
        "annotations": {"lab.stoker.dev/run-seconds": "1", "lab.stoker.dev/exit-code": code},
        "initContainers": [{"name": "ship", "image": "x/y", "restartPolicy": "Always"}, {"name": "fetch", "image": "x/y"}],
        "containers": [{"name": "main", "image": "x/y"}],
    }))
    # fmt: on
    lab.kubectl("wait", f"job/{name}", f"--for=condition={condition}", "--timeout=30s")

    pod = json.loads(lab.kubectl("get", "pods", "-l", f"job-name={name}", "-o", "json"))["items"][0]
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == int(code)


def test_an_image_is_built_on_the_base_and_runs(lab: Lab, pool: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nRUN echo built > /built\nCOPY --from=more file /file\n")
    more = tmp_path / "more"
    more.mkdir()
    (more / "file").write_text("copied")
    image = lab.build(tmp_path, tag="test/built:1", build_args={"BASE": lab.images["base"]}, contexts={"more": more})

    main = {"name": "main", "image": image, "command": ["cat", "/built", "/file"]}
    apply(lab, job("built", pool, {"containers": [main]}))
    lab.kubectl("wait", "job/built", "--for=condition=Complete", "--timeout=60s")
    assert lab.kubectl("logs", "job/built") == "built\ncopied"


def test_a_failing_kubectl_says_why(lab: Lab) -> None:
    with pytest.raises(LabError, match="doesn't have a resource type"):
        lab.kubectl("get", "unicorns")


def test_the_audit_log_names_who_wrote(lab: Lab) -> None:
    lab.kubectl("create", "configmap", "audited")

    last = [json.loads(line) for line in lab.audit_log.read_text().splitlines() if '"audited"' in line][-1]
    assert (last["user"]["username"], last["userAgent"].partition("/")[0]) == ("lab-admin", "kubectl")


def test_without_root_the_message_names_the_fix() -> None:
    command = [sys.executable, "-m", "lab", "up"]
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )

    assert done.returncode == 1
    assert "run it with sudo, or use `make unit`" in done.stderr


def left_behind(name: str) -> list[str]:
    """Processes, mounts, links, namespaces and cgroups that bear the lab's name."""
    found = [
        line for line in subprocess.run(["ps", "axww", "-o", "pid,args"], capture_output=True, text=True).stdout.split("\n")
        if f"/{name}/" in line
    ]  # fmt: skip
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{name}" in line]
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True).stdout.splitlines()
    found += [line for line in links if line.startswith(f"lab-{name}")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/stoker-lab/{name}")]
    found += [str(path) for path in Path("/run/netns").glob(f"*{name}")]
    return found


def test_a_killed_lab_starts_again_and_down_leaves_nothing() -> None:
    name = "lab-end"
    try:
        killed = up(name, nodes=1)
        for process in status(name):
            os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: not any(process.alive() for process in status(name)))
        again = up(name, nodes=1)

        assert killed.s3.secret_key != again.s3.secret_key
        assert nodes(again) == {"system-0"}
    finally:
        down(name)
    assert left_behind(name) == []
    assert not killed.state_dir.exists()
