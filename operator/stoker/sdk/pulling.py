"""A run's files on this machine: whole, verified, and resumed where a former pull stopped."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stoker.errors import BadInput, StokerError
from stoker.runtime.wire import path_problem
from stoker.sdk import stopping
from stoker.sdk.outputs import local_paths
from stoker.sdk.runrecords import ClusterRun, LocalRun, Run

#: Bytes that file systems allow in a name.
_LONGEST_NAME = 255
_PART = ".stoker-part"
_PIECE = 1 << 20
#: Files from this size (bytes) on are told of before they come.
LARGE = 8 * _PIECE


def name_problem(path: str) -> str | None:
    """Why an output cannot be written below a folder of this machine, or None."""
    if os.name == "nt" and set(path) & set('<>:"|?*'):
        return 'Windows allows none of <>:"|?* in a name'
    # Below a folder, as it is stored: `a:b` alone would be taken for a drive.
    return path_problem(f"outputs/{path}")


def wanted(found: Run, with_logs: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """(path below the target folder, stored file)."""
    source = found.kept if isinstance(found, LocalRun) else found.cluster.server()
    files = source.files(found.key)
    outputs = [
        {**one, "path": one["path"].removeprefix("outputs/"), "stored": one["path"]}
        for one in files
        if one["path"].startswith("outputs/")
    ]
    # The same places as `outputs` of the record has them; logs lie beside, and never in the way.
    wanted = local_paths(outputs)
    if with_logs:
        logs = [{**one, "stored": one["path"]} for one in files if one["path"].startswith("logs/")]
        taken = {path.casefold() for path, _ in wanted}
        wanted += [(path, one) for path, one in local_paths(logs) if path.casefold() not in taken]
    if not wanted:
        raise BadInput("RUN", f"{found.name} has saved no outputs", f"its log may say why: stoker logs {found.name}")
    return wanted


def pull_file(
    found: Run, path: str, one: Mapping[str, Any], folder: Path, *, force: bool, began: Callable[[str, int], None]
) -> dict[str, Any]:
    """Bring one stored file to `path` below a folder. began: hears of a large one before it comes. Raises BadInput for a file
    that is there with another content, StokerError for bytes that are not those of the seal."""
    place = folder.joinpath(*path.split("/"))
    told = {"path": path, "size": one["size"], "sha256": one["sha256"]}
    if place.exists() and not force:
        if place.is_file() and place.stat().st_size == one["size"] and _sha256(place) == one["sha256"]:
            return told
        raise BadInput(
            "FOLDER", f"{place} is there with another content", "use --force to replace it, or another folder"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(_part_name(place.name))
    if one["size"] > LARGE:
        began(path, one["size"])
    for again in (True, False):
        start = part.stat().st_size if part.exists() else 0
        if start > one["size"]:
            part.unlink()
            start = 0
        if start < one["size"]:
            _fetch(found, one, start, part)
        elif not part.exists():
            part.touch()
        # An unsealed file of a running job has no digest yet: its size is all there is to check.
        if part.stat().st_size == one["size"] and one["sha256"] in (None, _sha256(part)):
            part.replace(place)
            return told
        part.unlink()  # a part of an earlier pull that does not fit, or bytes that changed on the way: once more from 0
        if not again:
            break
    raise StokerError(f"{path}: what came does not have the sha256 of its seal; try again, or look at the store")


def _part_name(name: str) -> str:
    """Beside the file, so that a rename makes it whole; a name as long as a name may be leaves no room for more."""
    if len(name.encode()) + len(_PART) <= _LONGEST_NAME:
        return name + _PART
    return hashlib.sha256(name.encode()).hexdigest() + _PART


def _fetch(found: Run, one: Mapping[str, Any], start: int, part: Path) -> None:
    where_ = (one["attempt"], one["rank"], one["stored"])
    if isinstance(found, ClusterRun):
        with found.cluster.server().open_file(found.key, *where_, start) as response, part.open("ab") as file:
            if start and response.status != 206:
                file.truncate(0)
            while content := response.read(_PIECE):
                stopping.check()
                file.write(content)
    else:
        found.kept.copy(found.key, *where_, start, part)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
