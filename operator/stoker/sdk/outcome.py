"""How a run ended, in the form that people and programs are told."""

from typing import Any

from stoker.errors import EXIT_CANCELLED, EXIT_PLATFORM, EXIT_TIME
from stoker.sdk.outputs import local_paths


def run_record(result: Any, logs: str, storage: str) -> dict[str, Any]:
    """The record that `-o json` prints: name, phase, exitCode, reason, message, outputs, logs, storage, timings."""
    return {
        "name": result["name"], "phase": result["phase"], "exitCode": result["exitCode"], "reason": result["reason"],
        "message": result["message"],
        "outputs": [
            {"path": path, "size": one["size"], "sha256": one["sha256"]} for path, one in local_paths(result["outputs"])
        ],
        **({"skipped": [dict(one) for one in result["skipped"]]} if result.get("skipped") else {}),
        "logs": logs, "storage": storage, "timings": dict(result["timings"]),
    }  # fmt: skip


def skipped_lines(record: Any) -> list[str]:
    """A line for each of the first things below ./outputs that were not saved, and one for the rest."""
    skipped = record.get("skipped", ())
    lines = [f"not saved: outputs/{one['path']}: {one['reason']}" for one in skipped[:5]]
    return lines + ([f"and {len(skipped) - 5} more were not saved"] if len(skipped) > 5 else [])


def exit_code(record: Any) -> int:
    """What the process ends with: the job's own code; 124 for time, 125 for the platform, 130 for a cancelled run."""
    phase, reason, code = record["phase"], record["reason"], record["exitCode"]
    if phase == "Completed":
        return 0
    if phase == "Canceled":
        return EXIT_CANCELLED
    if reason in ("TimedOut", "QueueTimedOut", "OverBudget"):
        return EXIT_TIME
    return int(code) if code else EXIT_PLATFORM
