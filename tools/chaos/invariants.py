"""What must be true when the faults are over and every job has ended. Each rule yields what breaks it, in words."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FINISHED = ("Completed", "Failed", "Canceled")
_ATTEMPT = re.compile(r"jobs/(?P<key>[^/]+)/attempts/(?P<number>\d+)/(?P<rank>\d+)/")


def true_ends(jobs: list[dict[str, Any]], objects: Mapping[str, bytes]) -> Iterator[str]:
    """Every job has ended, as its command did, and its stored result says the same."""
    for job in jobs:
        name, status = job["metadata"]["name"], job["status"]
        notes = job["metadata"].get("annotations", {})
        if status.get("phase") not in FINISHED:
            yield f"{name} is {status.get('phase')}: {status.get('waiting')}"
            continue
        code, canceled = int(notes.get("chaos-code", 0)), notes.get("chaos") == "canceled"
        allowed = {"Completed" if code == 0 else "Failed"} | ({"Canceled"} if canceled else set())
        if status["phase"] not in allowed:
            yield f"{name} ended {status['phase']} ({status.get('reason')}: {status.get('message')}), allowed: {allowed}"
        if status["phase"] == "Failed" and status.get("exitCode") != code:
            yield f"{name} failed with {status.get('exitCode')} ({status.get('reason')}), its command with {code}"
        results = [body for key, body in objects.items() if f"/{name}-" in key and key.endswith("/result.json")]
        if len(results) != 1 or json.loads(results[0])["phase"] != status["phase"]:
            yield f"{name} is {status['phase']} and its stored results are {results}"


def no_doubled_child(creates: Counter[str], jobs: list[dict[str, Any]]) -> Iterator[str]:
    """No child was made twice, and each attempt in status had one."""
    for name, count in sorted(creates.items()):
        if count > 1:
            yield f"child {name} was created {count} times"
    for job in jobs:
        numbers = [attempt["number"] for attempt in job["status"].get("attempts", ())]
        if len(set(numbers)) != len(numbers):
            yield f"{job['metadata']['name']} has attempts {numbers}"


def sealed_truthfully(objects: Mapping[str, bytes]) -> Iterator[str]:
    """Every file that a seal lists is there, with its size and checksum; and a log has every line up to its last."""
    for key, body in objects.items():
        if not key.endswith("/seal.json"):
            continue
        prefix, seal = key.removesuffix("seal.json"), json.loads(body)
        for file in seal["files"]:
            stored = objects.get(prefix + file["path"])
            if stored is None or (len(stored), hashlib.sha256(stored).hexdigest()) != (file["size"], file["sha256"]):
                yield f"{prefix}{file['path']} is not what the seal lists"
        lines = objects.get(f"{prefix}logs/std_log.txt", b"").decode(errors="replace").splitlines()
        numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{prefix}logs/std_log.txt lacks lines: {len(numbers)} of {max(numbers, default=0)}"
        said = [int(line.split()[1]) for line in lines if line.startswith("lines ")]
        if said and said != [len(numbers)]:
            yield f"{prefix}logs/std_log.txt has {len(numbers)} lines, the command wrote {said}"


def goes_on(jobs: list[dict[str, Any]], objects: Mapping[str, bytes]) -> Iterator[str]:
    """A later attempt begins no earlier than the newest checkpoint that a former one had saved under a seal."""
    starts: dict[tuple[str, int], int] = {}
    saved: dict[tuple[str, int], int] = {}
    for key, body in objects.items():
        place = _ATTEMPT.search(key)
        if place is None:
            continue
        run = place["key"], int(place["number"])
        if key.endswith("/logs/std_log.txt") and (found := re.match(rb"attempt \d+ from (\d+)", body)):
            starts[run] = int(found[1])
        if key.endswith("/outputs/checkpoints/step.txt") and re.sub(r"outputs/.*", "seal.json", key) in objects:
            saved[run] = int(body or b"0")
    for (run, number), start in sorted(starts.items()):
        former = max((step for (other, at), step in saved.items() if other == run and at < number), default=0)
        if start < former:
            yield f"attempt {number} of {run} began at {start}, though step {former} was saved"


def nothing_left(
    children: list[dict[str, Any]],
    pods: list[dict[str, Any]],
    claims: list[dict[str, Any]],
    objects: Mapping[str, bytes],
    store: Path,
) -> Iterator[str]:
    """No child or pod goes on, no claim stands, no log piece under a seal, no upload in parts."""
    for child in children:
        if not any(
            one["type"] in ("Complete", "Failed") and one["status"] == "True"
            for one in child["status"].get("conditions", ())
        ):
            yield f"child {child['metadata']['name']} has not ended"
    for pod in pods:
        if pod["status"].get("phase") not in ("Succeeded", "Failed"):
            yield f"pod {pod['metadata']['name']} is {pod['status'].get('phase')} on {pod['spec'].get('nodeName')}"
    for claim in claims:
        yield f"claim {claim['metadata']['name']} stands"
    for key in objects:
        place = _ATTEMPT.search(key)
        if place and "/logs/.segments/" in key and f"{key[: place.end()]}seal.json" in objects:
            yield f"{key} is a piece of a log that is sealed"
    for folder in store.glob("**/.sgwtmp/multipart/*/*"):
        yield f"an upload in parts was left: {folder.name}"


def creates_of_children(audit_log: Path, offset: int) -> Counter[str]:
    """How often the API server made each child, from its audit log."""
    made: Counter[str] = Counter()
    with audit_log.open("rb") as log:
        log.seek(offset)
        for line in log:
            event = json.loads(line)
            reference = event.get("objectRef", {})
            if (
                event.get("stage") == "ResponseComplete"
                and event["verb"] == "create"
                and reference.get("resource") == "jobs"
                and event.get("responseStatus", {}).get("code") == 201
            ):
                made[f"{reference.get('namespace')}/{reference.get('name')}"] += 1
    return made
