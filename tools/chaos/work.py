"""The jobs that chaos is done to: real ones that count and resume, and ones on kwok nodes whose pods are played."""

import random
from typing import Any

REAL, FAKE = "chaos-real", "chaos-kwok"
#: Writes numbered lines and a file per step, keeps a checkpoint, and goes on from it. Ends with the code it was given.
TRAIN = """
import os, pathlib, random, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
steps, code = int(sys.argv[1]), int(sys.argv[2])
outputs = pathlib.Path("outputs")
kept = pathlib.Path(os.environ["STOKER_CHECKPOINT_DIR"], "step.txt")
kept.parent.mkdir(parents=True, exist_ok=True)
step = int(kept.read_text()) if kept.exists() else 0
print("attempt", os.environ["STOKER_ATTEMPT"], "from", step, flush=True)
line = 0
while step < steps:
    step += 1
    for _ in range(200):
        line += 1
        print("line", line)
    sys.stdout.flush()
    (outputs / ("part-%04d.bin" % step)).write_bytes(random.randbytes(random.choice((10, 5000, 300000))))
    new = kept.with_suffix(".new")
    new.write_text(str(step))
    new.rename(kept)
    time.sleep(0.5)
print("lines", line, flush=True)
sys.exit(code)
"""


def pools(real: int, fake: int) -> list[dict[str, Any]]:
    """A pool of real nodes that grows from zero, and one of kwok nodes that stand."""
    from tools.demo import pool_manifests

    label = {"stoker.dev/compute": FAKE}
    return [
        *pool_manifests(REAL, most=real, idle_seconds=20),
        {
            "apiVersion": "lab.stoker.dev/v1",
            "kind": "NodePool",
            "metadata": {"name": FAKE},
            "spec": {
                "replicas": fake,
                "kind": "Kwok",
                "capacity": {"cpu": "4", "memory": "16Gi", "pods": "20"},
                "labels": label,
                "taints": [{"key": "stoker.dev/compute", "value": FAKE, "effect": "NoSchedule"}],
            },
        },
        {
            "apiVersion": "stoker.dev/v1alpha1",
            "kind": "ComputeCluster",
            "metadata": {"name": FAKE},
            "spec": {
                "provider": {"type": "Static", "static": {"nodeSelector": label}},
                "instanceTypes": [{"name": "kwok", "resources": {"cpu": "4", "memory": "16Gi"}}],
                "maxInstances": fake,
                "allowedNamespaces": {},
            },
        },
    ]


def job(number: int, image: str, rng: random.Random, *, real: bool) -> dict[str, Any]:
    """One job. A tenth of the real ones fail by themselves, and half of those are to be tried again."""
    code = rng.choice((0,) * 9 + (3,))
    command: dict[str, Any] = {"command": "true", "environment": {"spec": {"image": image}}}
    if real:
        command["command"] = f"exec python3 train.py {rng.randint(10, 60)} {code}"
        command["code"] = {"inline": {"train.py": TRAIN}}
    else:
        command["resources"] = {"instanceCount": rng.choice((1, 1, 1, 2, 4))}
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {
            "name": f"{'real' if real else 'kwok'}-{number:04d}",
            "annotations": {"chaos-code": str(code if real else 0)},
        },
        "spec": {
            "compute": REAL if real else FAKE,
            "limits": {"graceSeconds": 30},
            # Chaos interrupts far more often than life does.
            "retry": {
                "interruptionLimit": 1000,
                **({"limit": 1, "exitCodes": [3]} if code and rng.random() < 0.5 else {}),
            },
            "command": command,
        },
    }
