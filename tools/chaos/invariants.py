"""What must be true when the faults are over and every job has ended. Each rule yields what breaks it, in words."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stoker.api.names import FINISHED

_ATTEMPT = re.compile(r"jobs/(?P<key>[^/]+)/attempts/(?P<number>\d+)/(?P<rank>\d+)/")


def true_ends(jobs: list[dict[str, Any]], objects: Mapping[str, bytes]) -> Iterator[str]:
    """Every job has ended as its command did, or as was done to it, and its stored result says the same."""
    for job in jobs:
        name, status = job["metadata"]["name"], job["status"]
        if status.get("phase") not in FINISHED:
            yield f"{name} is {status.get('phase')}: {status.get('waiting')}"
            continue
        end = status["phase"], status.get("exitCode"), status.get("reason")
        if not _allowed(job["metadata"].get("annotations", {}), *end):
            yield f"{name} ended {end}: {str(status.get('message'))[:200]!r}"
        results = [
            json.loads(body) for key, body in objects.items() if f"/{name}-" in key and key.endswith("/result.json")
        ]
        if [result["phase"] for result in results] != [status["phase"]]:
            yield f"{name} is {status['phase']} and its stored results are {results}"


def _allowed(notes: Mapping[str, str], phase: str, code: int | None, reason: str | None) -> bool:
    """Whether a job whose manifest and faults left these notes may have ended so."""
    own = int(notes.get("chaos-code", 0))
    if phase == "Canceled":
        return "chaos-canceled" in notes
    if phase == "Completed":
        return own == 0
    killed = "chaos-killed" in notes and (reason == "LauncherLost" or code == 137)
    return killed or (own != 0 and code == own)


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
        if place and "/logs/.segments/" in key and _has_whole_log(objects.get(f"{key[: place.end()]}seal.json")):
            yield f"{key} is a piece of a log that is stored whole"
    for folder in store.glob("**/.sgwtmp/multipart/*/*"):
        yield f"an upload in parts was left: {folder.name}"


def _has_whole_log(seal: bytes | None) -> bool:
    """Of a rank that was lost the pieces are all there is of its log, and stay."""
    return seal is not None and any(file["path"] == "logs/std_log.txt" for file in json.loads(seal)["files"])


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
