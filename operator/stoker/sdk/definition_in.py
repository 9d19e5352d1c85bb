"""The environment that a path means: a file of an environment, a job's file, or a folder with one of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.core.environment import definition
from stoker.core.environment.definition import Definition
from stoker.core.yaml12 import parse
from stoker.errors import BadInput
from stoker.sdk import environments
from stoker.sdk.ask import JOB_FILES, JOB_SUFFIXES, Flags, ask
from stoker.sdk.azureml import labels
from stoker.sdk.definitions import defined, of_file, spec_of, with_entries
from stoker.sdk.draft import Draft

if TYPE_CHECKING:
    from stoker.runtime.wire import Entry

#: What `stoker run` finds by itself in a code folder, in its order.
_IN_A_FOLDER = (*JOB_FILES, *environments.FOUND_BY_ITSELF)


def definition_in(path: Path, here: Path, image: str = "", *, only_if_missing: bool = False) -> Definition:
    """What `stoker run` would take from this path, or what the file itself says. image: the base of a definition without
    one; for one that has a base it is an error, or means nothing (only_if_missing). Raises BadInput and BadInputs."""
    file = _file_in(path) if path.is_dir() else path
    if not _is_job(file):
        return of_file(file, str(file), image, only_if_missing=only_if_missing)
    return _of_job(ask(file, (), Flags(), here), image, only_if_missing)


def _file_in(folder: Path) -> Path:
    found = next((folder / name for name in _IN_A_FOLDER if (folder / name).is_file()), None)
    if found is None:
        raise BadInput("FILE", f"{folder} has none of {', '.join(_IN_A_FOLDER)}", "name a file with an environment")
    return found


def _is_job(file: Path) -> bool:
    if file.suffix not in JOB_SUFFIXES:
        return False
    try:
        documents = parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError, BadInput):
        return False  # told by whoever reads it as an environment
    root = documents[0].value if documents else None
    return isinstance(root, dict) and (
        bool({"command", "component", "script"} & root.keys()) or root.get("kind") == "TrainingJob"
    )


def _of_job(draft: Draft, image: str, only_if_missing: bool) -> Definition:
    asked, _ = labels.resolved(draft.environment, labels.NOBODY_ASKED)
    if asked is None or asked.kind == "system":
        raise BadInput(
            "FILE", f"{draft.source} names no environment but this Python", "name a file with an environment"
        )
    if asked.kind == "name":
        fix = f"see its keys: stoker env show {asked.name}"
        raise BadInput("FILE", f"{draft.source} names Environment/{asked.name} of the cluster", fix)
    if image and asked.image and not only_if_missing:
        raise BadInput("--image", f"{draft.source} names a base of its own, {asked.image}", "leave --image out")
    if image and not asked.image:
        asked = defined(replace(asked, spec={**asked.spec, "image": image}))
    found = with_entries(asked, _entries(draft) if definition.reads_context(spec_of(asked)) else None).definition
    if found is None:
        raise BadInput(
            "FILE", f"{draft.source} takes its packages from files of a snapshot", "name the files themselves"
        )
    return found


def _entries(draft: Draft) -> "Sequence[Entry] | None":
    from stoker.sdk.prepare import code_tree

    return code_tree(draft.code).hashed.entries if draft.code is not None and draft.code.is_dir() else None
