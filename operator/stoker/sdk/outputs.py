"""Where the outputs of a run's ranks go when they come together in one folder."""

from collections.abc import Iterable, Mapping
from typing import Any


def local_paths(outputs: Iterable[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """(path in one folder, output), sorted: rank 0 at the root, and another rank's file of the same name, or one that
    would lie in or above a file, under `rank-<r>/`. Only the last attempt's files."""
    found = sorted(outputs, key=lambda one: (one["rank"], one["path"]))
    last = max((one["attempt"] for one in found), default=0)
    taken: set[str] = set()
    placed = []
    for one in found:
        if one["attempt"] != last:
            continue
        path = str(one["path"])
        if one["rank"] > 0 and _clashes(path, taken):
            path = f"rank-{one['rank']}/{path}"
        taken.add(path.casefold())
        placed.append((path, one))
    return sorted(placed, key=lambda pair: pair[0])


def _clashes(path: str, taken: set[str]) -> bool:
    folded = path.casefold()
    parts = folded.split("/")
    above = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return bool(above & taken) or any(other.startswith(folded + "/") for other in taken)
