"""What one job leaves on a node's own disk is gone before the next job gets the node, or nobody gets it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import Stoker, training_job
from tools.demo import pool_manifests

pytestmark = pytest.mark.lab

POOL, NODE = "kept", "kept-0"
#: It finds the folder empty, or fails; then it leaves what is hard to remove.
LEAVES = """\
test -z "$(ls -A /mnt/fast)" || { ls -lA /mnt/fast; exit 4; }
mkdir -p /mnt/fast/deep/er && echo secret > /mnt/fast/deep/er/key && ln -s /etc /mnt/fast/link
chmod 000 /mnt/fast/deep/er
"""


@pytest.fixture
def scratch(stoker: Stoker, tmp_path: Path) -> Iterator[Path]:
    """A node that stays, and a folder on it that anybody may write to, with a file in it and a disk mounted there."""
    folder = tmp_path / "scratch"
    (folder / "disk").mkdir(parents=True)
    (folder / "of-a-stranger").write_text("left long ago")
    folder.chmod(0o777)
    taint = {"key": "stoker.dev/compute", "value": POOL, "effect": "NoSchedule"}
    stoker.lab.boot_node(NODE, labels={"disk": POOL}, taints=[taint])
    stoker.lab.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=60s")
    stoker.lab.on_node(NODE, "mount", "-t", "tmpfs", "disk", str(folder / "disk"))
    with stoker.settings({"scratchScrub": {"enabled": True}}):
        yield folder
        stoker.lab.kubectl("delete", "computecluster", POOL, "--ignore-not-found", "--timeout=60s")
    stoker.lab.remove_node(NODE)


def pool(folder: Path) -> dict[str, Any]:
    _, cluster = pool_manifests(POOL, most=1, idle_seconds=60)
    spec = {name: value for name, value in cluster["spec"].items() if name != "provider"}
    spec |= {
        "provider": {"type": "Static", "static": {"nodeSelector": {"disk": POOL}}},
        "storage": {"scratchPath": str(folder)},
        "podDefaults": {
            "volumes": [{"name": "fast", "hostPath": {"path": str(folder), "type": "Directory"}}],
            "volumeMounts": [{"name": "fast", "mountPath": "/mnt/fast"}],
        },
    }
    return {**cluster, "spec": spec}


def test_a_node_gets_a_job_only_once_its_scratch_folder_was_found_empty(stoker: Stoker, scratch: Path) -> None:
    image = stoker.lab.images["base"]
    stoker.apply(pool(scratch), training_job("first-there", LEAVES, image=image, compute=POOL))

    def told(cluster: dict[str, Any]) -> bool:
        return any(one["reason"] == "ScrubFailed" for one in cluster.get("status", {}).get("problems", ()))

    status = stoker.until("computecluster", POOL, told)["status"]
    message = next(one["message"] for one in status["problems"] if one["reason"] == "ScrubFailed")
    assert "'disk': another file system is mounted there: unmount it" in message
    assert NODE in message
    assert not (scratch / "of-a-stranger").exists()
    assert stoker.get("trainingjob", "first-there")["status"]["phase"] in ("Pending", "Preparing", "Queued")

    # As the message says.
    stoker.lab.on_node(NODE, "umount", str(scratch / "disk"))
    (failed,) = stoker.items("pod", f"stoker.dev/scrub={POOL}", "stoker-privileged")
    assert failed["metadata"]["name"] in message
    stoker.lab.kubectl("delete", "pod", failed["metadata"]["name"], "-n", "stoker-privileged")
    assert stoker.finished("first-there")["phase"] == "Completed"

    stoker.apply(training_job("second-there", LEAVES, image=image, compute=POOL))
    assert stoker.finished("second-there")["phase"] == "Completed"

    stoker.until(
        "node", NODE, lambda node: node["metadata"]["annotations"].get("stoker.dev/scratch") == f"clean {scratch}"
    )
    assert list(scratch.iterdir()) == []
    assert Path("/etc/passwd").exists(), "a link is removed, not followed"
