"""A run on this machine, from a draft to the value that `stoker.local` runs."""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.core.record import SECRET
from stoker.errors import BadInput
from stoker.local import secret_values
from stoker.local.job import Code, LocalInput, LocalJob
from stoker.sdk import git, manifest, settings
from stoker.sdk.prepare import Prepared, input_tree
from stoker.sdk.session import Session

if TYPE_CHECKING:
    from stoker.local.containers import Container
    from stoker.local.environments.wanted import Wanted


def local_job(
    prepared: Prepared, name: str, store_url: str, wanted: "Wanted", container: "Container | None", *, fresh: bool
) -> LocalJob:
    """The value that a local run needs."""
    draft = prepared.draft
    asked = draft.environment
    secrets = secret_values.secret_inputs(draft.spec, os.environ)
    drawn = secret_values.drawn_variables(draft.spec, os.environ)
    # Hashed here, where what has not changed since is known: the record tells what was read.
    inputs = {
        key: LocalInput(one.kind, path=one.path, digest=input_tree(key, one).digest, expected=one.digest)
        for key, one in draft.local_inputs.items()
    }
    for key, one in draft.spec.get("inputs", {}).items():
        if key in secrets:
            inputs[key] = LocalInput(SECRET, secret=secrets[key])
        elif "value" in one:
            inputs[key] = LocalInput("literal", value=str(one["value"]))
        elif str(one["path"]).startswith("snapshot:"):
            raise BadInput(
                f"inputs.{key}", f"{one['path'][:28]}… is in a cluster's store", "name a local folder", draft.source
            )
        else:
            inputs[key] = LocalInput(one.get("type", "uri_folder"), url=one["path"], expected=one.get("digest", ""))
    code = Code(inline=draft.inline)
    if prepared.code is not None:
        sent = (file.path for file in prepared.code.listing.files)
        code = Code(prepared.code.root, prepared.code.hashed, git=git.state_of(prepared.code.root, sent))
    spec = {**draft.spec, "command": {**draft.spec["command"], "environment": manifest.environment_block(asked)}}
    local_paths = {key: {"type": one.kind, "path": one.path.as_uri()} for key, one in draft.local_inputs.items()}
    if local_paths:
        spec["inputs"] = {**spec.get("inputs", {}), **local_paths}
    return LocalJob(
        name,
        uuid.uuid4().hex,
        spec,
        code,
        wanted,
        store_url,
        inputs,
        asked.image if asked else "",
        drawn,
        fresh,
        container,
    )


def storage_url(storage: str | None, here: Path) -> str:
    """Where local runs are kept: a URL, a folder relative to here, or the project's own."""
    if storage is None:
        return settings.default_storage(here)
    if "://" in storage:
        return storage.rstrip("/")
    return (here / storage).resolve().as_uri()


def check_place(url: str, asked: str | None) -> None:
    """Raises BadInput for a folder that nothing can be written into."""
    if not url.startswith("file:"):
        return
    from stoker.storage.objects import split_file_url

    folder = split_file_url(url)
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    why = "cannot be written into" if there.is_dir() else "is no folder"
    told = f"{there} {why}" if there == folder else f"{folder} cannot be made: {there} {why}"
    field = "--storage" if asked is not None else "storage"
    raise BadInput(
        field, f"{told}, and the run would be kept there", "name a folder or bucket that can: --storage URL|DIR"
    )


def note_run(session: Session, job: LocalJob, storage: str | None) -> None:
    """`@last` means this run from now on. storage: as it was asked for, None for the project's own."""
    if job.store_url.startswith("file:") and storage is None:
        folder = session.here / settings.FOLDER
        folder.mkdir(exist_ok=True)
        settings.keep_out_of_git(folder)
    settings.remember_last(
        session.here,
        {"name": job.name, "key": f"{job.name}-{job.uid[:8]}", "compute": "local", "storage": job.store_url},
    )
