"""A file of Azure ML's, or a job file, as the manifest that means the same: for Git. Sends nothing and asks no cluster."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stoker.api.names import API_VERSION, slug
from stoker.core.yaml12 import Document
from stoker.errors import BadInput
from stoker.sdk import ask, manifest
from stoker.sdk.azureml import compute, environment, kinds, labels
from stoker.sdk.draft import LOCAL, Draft
from stoker.sdk.prepare import Prepared, prepare

How = Literal["snapshot", "inline", "git"]


@dataclass(frozen=True)
class Converted:
    """A manifest, what in it is not as the file says, and, for a job, what it sends. versioned: the file has a version."""

    document: dict[str, Any]
    warnings: tuple[str, ...] = ()
    prepared: Prepared | None = None
    versioned: bool = False


def convert(path: Path, here: Path, how: How, known: labels.Known) -> Converted:
    """The manifest of a file, or of a folder's job file. known: what references to environments mean. Raises BadInput and
    BadInputs for what is refused."""
    if how == "git":
        fix = "use --code snapshot, or --code inline for small files"
        raise BadInput("--code", "git is not supported yet: a TrainingJob has no code.git", fix)
    if path.is_file() and path.suffix in ask.JOB_SUFFIXES:
        read = ask.load_one(path, here)
        if manifest.is_resource(read.value):
            raise BadInput("", "is a manifest already", "apply it: kubectl apply -f", read.source)
        if (found := of_object(path, here)) is not None:
            return found
    draft = ask.ask(path, (), ask.Flags(), here)
    meant, told = labels.resolved(draft.environment, known)
    draft = replace(draft, environment=meant)
    ask.check_for_cluster(draft)
    prepared = prepare(draft, with_inputs=True)
    sent = replace(prepared.draft, code=None, inline=_inline(prepared)) if how == "inline" else prepared.draft
    digests = {key: tree.digest for key, tree in prepared.inputs.items()}
    written = manifest.write(sent, _name(draft, path), None, prepared.snapshot, digests)
    document: dict[str, Any] = manifest.plain_data(written)
    manifest.check("TrainingJob", document, draft.source)
    if how == "inline":
        prepared = replace(prepared, code=None)
    return Converted(document, (*draft.warnings, *told, *_of_compute(draft)), prepared)


def of_object(path: Path, here: Path) -> Converted | None:
    """The manifest of an environment's or a compute's file; None for a file that is something else."""
    if path.suffix not in ask.JOB_SUFFIXES:
        return None
    document = ask.load_one(path, here)
    if manifest.is_resource(document.value):
        return None
    kind = kinds.kind_of(document, path.name)
    folder = path.resolve().parent
    if kind == "environment":
        made, warnings = environment.read(document, folder, path.stem)
    elif kind == "compute":
        made, warnings = compute.read(document, folder)
    else:
        return None
    manifest.check(made["kind"], made, document.source)
    return Converted(made, warnings, versioned=document.value.get("version") is not None)


def aliases_of(document: Document) -> labels.Known:
    """What a Workspace's manifest says of environments. Raises BadInput."""
    value = document.value
    if not isinstance(value, dict) or value.get("kind") != "Workspace":
        fix = f"name a manifest with apiVersion: {API_VERSION} and kind: Workspace"
        raise BadInput("--workspace", "is no Workspace", fix, document.source)
    manifest.check("Workspace", manifest.plain_data(value), document.source)
    return labels.Known((value.get("spec") or {}).get("environmentAliases") or {})


def _name(draft: Draft, path: Path) -> str:
    """A name that is the same each time, for a file in Git."""
    stem = path.stem if path.is_file() and path.name not in ask.JOB_FILES else draft.base
    return draft.name or slug(stem, 63)


def _of_compute(draft: Draft) -> tuple[str, ...]:
    if draft.compute != LOCAL:
        return ()
    return (f"{draft.source}: compute: local is this machine: left out, so that the Workspace's default holds",)


def _inline(prepared: Prepared) -> dict[str, str] | None:
    tree = prepared.code
    if tree is None:
        return None
    texts = {}
    for file in tree.listing.files:
        try:
            texts[file.path] = (tree.root / file.path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise BadInput("--code", f"inline, and {file.path} is no UTF-8 text", "use --code snapshot") from None
    return texts
