"""A run of before as a draft: the same code, environment, inputs and command, from its record alone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stoker.api.names import API_VERSION
from stoker.core.record import SECRET
from stoker.core.yaml12 import Document
from stoker.errors import BadInput
from stoker.sdk import ask, manifest
from stoker.sdk.draft import Draft, LocalInput

_GENERATED = re.compile(r"-[bcdfghjkmnpqrstvwxz23456789]{4}\Z")
#: What of a spec belongs to the one run alone.
_OF_ONE_RUN = ("cancel", "suspend", "runPolicy")


def draft_of(job: Mapping[str, Any], sets: Sequence[str], here: Path, *, exact: bool) -> Draft:
    """The draft of what a record's job.json says. sets: `inputs.NAME=VALUE` texts over it. exact: pin the image and every
    input to what was used. Raises BadInput for a record that cannot be run again, and for sets beside exact."""
    name, spec = str(job["name"]), {key: one for key, one in job["spec"].items() if key not in _OF_ONE_RUN}
    source = f"the record of {name}"
    if exact and sets:
        raise BadInput("--set", "--exact repeats a run as it was", "leave one of the two out", source)
    block = dict(spec.get("command") or {})
    if job.get("snapshot"):
        block["code"] = {"snapshot": job["snapshot"]}
    spec["command"] = block
    if exact:
        spec["inputs"] = {key: _pinned(key, one, job, source) for key, one in (spec.get("inputs") or {}).items()}
        if (image := _image(job)) is not None:
            block["environment"] = {"spec": {"image": image}}
    if not spec.get("inputs"):
        spec.pop("inputs", None)
    if job.get("compute") == "local":
        spec.pop("compute", None)
    document = Document({
        "apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": _base(name)}, "spec": spec,
    }, source)  # fmt: skip
    made = manifest.read(ask.with_sets(document, sets, here), here)
    carried = {key: str(job[of]) for key, of in _CARRIED.items() if job.get(of)}
    if job.get("dirty") and "stoker.dev/commit" in carried:
        carried["stoker.dev/commit"] += "-dirty"
    metadata = {"annotations": carried} if carried else {}
    # No packages and no image: the Python that ran stoker, which a manifest has no word for.
    environment = (
        None
        if made.environment is not None and not made.environment.spec and not made.environment.name
        else made.environment
    )
    return _with_local_inputs(replace(made, name=None, base=_base(name), metadata=metadata, environment=environment))


#: The code is the same, so is what Git knew of it: annotation -> key of job.json.
_CARRIED = {"stoker.dev/commit": "commit", "stoker.dev/diff": "diff"}


def _base(name: str) -> str:
    """What a new name starts with: the old one without the letters that made it unique."""
    return _GENERATED.sub("", name) or name


def _image(job: Mapping[str, Any]) -> str | None:
    """The image by digest, None for a run that had none (of this machine)."""
    image = job.get("image") or {}
    reference, digest = str(image.get("reference") or ""), str(image.get("digest") or "")
    if not reference or not digest:
        return None
    name = reference.partition("@")[0]
    # A tag beside a digest says nothing and may have moved on.
    front, _, last = name.rpartition("/")
    last = last.partition(":")[0]
    return f"{front}/{last}@{digest}" if front else f"{last}@{digest}"


def _pinned(name: str, one: Mapping[str, Any], job: Mapping[str, Any], source: str) -> dict[str, Any]:
    """An input with the digest that the run read."""
    told = (job.get("inputs") or {}).get(name) or {}
    if "path" not in one or told.get("type") in ("literal", SECRET):
        return dict(one)
    digest = told.get("digest") or told.get("snapshot")
    if not digest:
        fix = "run it again without --exact: runs from now on have one"
        raise BadInput(
            f"inputs.{name}", "the record has no digest of it, so nothing tells whether it changed", fix, source
        )
    return {**one, "digest": digest}


def _with_local_inputs(draft: Draft) -> Draft:
    """Data of this machine is read in place, as it was."""
    inputs = dict(draft.spec.get("inputs") or {})
    local = {name: found for name, one in inputs.items() if (found := _local(one)) is not None}
    rest = {name: one for name, one in inputs.items() if name not in local}
    spec = {key: one for key, one in draft.spec.items() if key != "inputs"}
    return replace(draft, spec={**spec, "inputs": rest} if rest else spec, local_inputs=local)


def _local(one: Mapping[str, Any]) -> LocalInput | None:
    url = urlsplit(str(one.get("path") or ""))
    if url.scheme != "file":
        return None
    place = Path(unquote(url.path))
    if not place.exists():
        raise BadInput(
            "inputs", f"{place} is not there any more", "put it back, or name another with --set inputs.NAME=PATH"
        )
    return LocalInput(place, str(one.get("type") or "uri_folder"), str(one.get("digest") or ""))
