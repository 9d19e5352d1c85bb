"""COPY without BuildKit: files of the context become the entries of one layer on top of the base.

As in a Dockerfile: a folder's content is copied, not the folder; a single file goes into the target where that is a
folder; patterns are Go's; .dockerignore holds. Owner is root and modes are 644 and 755, unless --chown or --chmod say
otherwise. Time stamps are those of all layers of ours.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from posixpath import basename, join, normpath

from stoker.core.environment.stepwords import BadStep
from stoker.images.layers import Entries, File, Folder, Link, blocks
from stoker.images.steps.basetree import BaseTree, LinkLoop
from stoker.images.steps.ignoring import NAME, Ignored, regex
from stoker.images.steps.native import Copy

Entry = File | Link | Folder
_PATTERN = re.compile(r"[*?\[]")


def entries(copies: Sequence[Copy], context: Path, base: BaseTree) -> Entries:
    """What the copies add, later ones over earlier ones. Raises BadStep that shows the step."""
    ignore = context / NAME
    ignored = Ignored(ignore.read_text(encoding="utf-8") if ignore.is_file() else "")
    made: dict[str, Entry] = {}
    parents: dict[str, Entry] = {}
    for copy in copies:
        # As BuildKit has it: folders that a COPY makes on its way get its --chown and --chmod too.
        new = Folder(copy.owner, copy.mode if copy.mode is not None else 0o755)
        try:
            base.make(copy.working_dir)
            for path, entry in _copied(copy, context, ignored, base, made):
                _add(made, path, entry)
                parents = {**base.parents(path, new), **parents}
        except (BadStep, LinkLoop) as error:
            raise BadStep(f"{copy.step.splitlines()[0]}: {error}") from None
    return parents | made


def _copied(
    copy: Copy, context: Path, ignored: Ignored, base: BaseTree, made: dict[str, Entry]
) -> Iterator[tuple[str, Entry]]:
    target = base.resolve(copy.target)
    for source in copy.sources:
        found = list(_matches(source, context, ignored))
        if not found:
            raise BadStep(
                f"{source} is not in the context"
                + (f" (or {NAME} leaves it out)" if _exists(source, context) else "")
                + "; paths are relative to the context folder"
            )
        if len(found) > 1 and not copy.into_folder:
            raise BadStep(f"{source} is {len(found)} files; end the target with a slash")
        for place in found:
            on_disk = context / place
            if on_disk.is_dir():
                yield target, _folder(copy, base, target, made)
                yield from _tree(copy, on_disk, place, target, ignored, base)
            else:
                into = copy.into_folder or base.is_folder(target) or isinstance(made.get(target), Folder)
                path = base.resolve(join(target, basename(place)) if into else target)
                yield path, _file(copy, on_disk)


def _folder(copy: Copy, base: BaseTree, path: str, made: dict[str, Entry]) -> Entry:
    """A folder that is there stays as it is."""
    known = made.get(path)
    if isinstance(known, Folder):
        return known
    return base.folders.get(path) or Folder(copy.owner, copy.mode or 0o755)


def _tree(
    copy: Copy, top: Path, place: str, target: str, ignored: Ignored, base: BaseTree
) -> Iterator[tuple[str, Entry]]:
    for folder, names, files in os.walk(top):
        names.sort()
        inside = Path(folder).relative_to(top).as_posix()
        for name in (*names, *sorted(files)):
            relative = name if inside == "." else f"{inside}/{name}"
            if ignored(relative if place in ("", ".") else f"{place}/{relative}"):
                continue
            file, path = Path(folder, name), base.resolve(join(target, relative))
            if file.is_symlink():
                yield path, Link(os.readlink(file), copy.owner)
            elif file.is_dir():
                yield path, base.folders.get(path) or Folder(copy.owner, copy.mode or 0o755)
            else:
                yield path, _file(copy, file)


def _file(copy: Copy, path: Path) -> File:
    executable = bool(path.stat().st_mode & 0o100)
    return File(partial(blocks, path), path.stat().st_size, executable, copy.owner, copy.mode)


def _add(made: dict[str, Entry], path: str, entry: Entry) -> None:
    if not path:
        return  # the root itself
    old = made.get(path)
    if old is not None and isinstance(old, Folder) != isinstance(entry, Folder):
        raise BadStep(f"/{path} would be both a file and a folder")
    made[path] = entry


def _clean(source: str) -> str:
    """A source's path below the context: a leading slash and `..` at the top mean the context itself."""
    return normpath("/" + source).lstrip("/")


def _exists(source: str, context: Path) -> bool:
    return (context / _clean(source)).exists()


def _matches(source: str, context: Path, ignored: Ignored) -> Iterator[str]:
    """Paths below the context that a source means, `""` for the context itself."""
    cleaned = _clean(source)
    if not _PATTERN.search(cleaned):
        if (context / cleaned).exists() and (not cleaned or not ignored(cleaned)):
            yield cleaned
        return
    # To COPY two stars are one, other than to a .dockerignore.
    wanted, depth = re.compile(regex(re.sub(r"\*+", "*", cleaned))), cleaned.count("/")
    for folder, names, files in os.walk(context):
        names.sort()
        inside = Path(folder).relative_to(context).as_posix()
        for name in sorted((*names, *files)):
            path = name if inside == "." else f"{inside}/{name}"
            if path.count("/") <= depth and wanted.fullmatch(path) and not ignored(path):
                yield path
        if inside != "." and inside.count("/") >= depth:
            names.clear()
