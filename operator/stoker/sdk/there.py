"""A run in a cluster, from a draft to its TrainingJob, and from its end to its record."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from stoker.api.computecluster import ComputeCluster
from stoker.api.names import SERVERLESS
from stoker.api.trainingjob import CommandJob
from stoker.core.gitstate import GitState
from stoker.core.serverless import Choice, choose
from stoker.errors import BadInput, StokerError
from stoker.sdk import ask, git, manifest
from stoker.sdk.client import Cluster
from stoker.sdk.draft import Draft
from stoker.sdk.outcome import run_record
from stoker.sdk.prepare import Prepared, Tree, prepare


def planned(
    draft: Draft, compute: str, namespace: str | None, *, ignore: tuple[str, ...] = (), allow: tuple[str, ...] = ()
) -> tuple[Prepared, dict[str, Any]]:
    """What a run sends, and its TrainingJob. Asks no cluster. Raises BadInput and BadInputs."""
    draft = replace(draft, compute=compute)
    ask.check_for_cluster(draft)
    prepared = prepare(draft, with_inputs=True, extra_ignore=ignore, allow_secrets=allow)
    if prepared.code is not None and (known := _git_state(prepared.code)) is not None:
        metadata = {**draft.metadata, "annotations": {**draft.metadata.get("annotations", {}), **known.annotations()}}
        draft = replace(draft, metadata=metadata)
    name = draft.name or manifest.generated_name(draft.base)
    digests = {key: tree.digest for key, tree in prepared.inputs.items()}
    namespace = namespace or draft.metadata.get("namespace")
    document = manifest.plain_data(manifest.write(draft, name, namespace, prepared.snapshot, digests))
    manifest.check("TrainingJob", document, draft.source)
    return prepared, document


def _git_state(tree: Tree) -> GitState | None:
    return git.state_of(tree.root, (file.path for file in tree.listing.files))


def look_up(cluster: Cluster, prepared: Prepared, compute: str) -> tuple[str, str]:
    """The compute as the plan shows it, and what is known of it. What the run names must be there before anything is sent:
    raises BadInput."""
    pool = cluster.compute(compute) if compute != SERVERLESS else None
    asked = prepared.draft.environment
    if asked is not None and asked.kind == "name":
        cluster.environment(asked.name)
    detail = f"namespace {cluster.namespace}"
    if pool is not None:
        now = (pool.get("status") or {}).get("currentNodes", 0)
        detail = f"{now} of {pool['spec'].get('maxInstances', 0)} nodes now; {detail}"
    if compute == SERVERLESS and (chosen := _chosen(cluster, prepared)) is not None:
        compute, detail = f"{SERVERLESS}: {chosen.compute}", f"{chosen.message}; {detail}"
    return compute, detail


def _chosen(cluster: Cluster, prepared: Prepared) -> Choice | None:
    """What serverless comes to as things are, None when we may not look. Raises BadInput when no pool fits."""
    found = cluster.computes()
    if found is None:
        return None
    block = prepared.draft.spec["command"]
    asks = {name: block[name] for name in ("resources", "pod") if name in block}
    command = msgspec.convert({"command": prepared.draft.command, "environment": {}, **asks}, CommandJob)
    asked = prepared.draft.environment
    platforms = (
        cluster.environment(asked.name).get("platforms", ()) if asked is not None and asked.kind == "name" else ()
    )
    choice = choose(command, cluster.namespace, [msgspec.convert(one, ComputeCluster) for one in found], platforms)
    if not choice.compute:
        raise BadInput(
            "compute",
            f"serverless finds no pool for this run: {choice.why_none()}",
            "ask for less, or name a ComputeCluster",
        )
    return choice


def submit(
    cluster: Cluster, prepared: Prepared, document: Mapping[str, Any], told: Callable[[str, Tree, bool], None]
) -> dict[str, Any]:
    """Send what is not there yet and create the TrainingJob. told: hears of each tree whether it was sent."""
    for what, tree in prepared.trees:
        told(what, tree, cluster.server().push(tree))
    metadata = {**document["metadata"], "namespace": cluster.namespace}
    return cluster.submit({**document, "metadata": metadata})


def record_of(cluster: Cluster, job: dict[str, Any] | None, key: str) -> dict[str, Any]:
    """The record of a finished run: from the store, and from the object what the store does not have."""
    stored = cluster.server().job(key)
    result = stored.get("result")
    status = (job or {}).get("status") or {}
    if result is None:
        if not status:
            raise StokerError(f"{key} has no result yet: stoker logs {key} --wait")
        result = {
            "name": job["metadata"]["name"] if job else key, "phase": status.get("phase", ""),
            "exitCode": status.get("exitCode"), "reason": status.get("reason", ""), "message": status.get("message", ""),
            "outputs": [], "timings": status.get("timings", {}),
        }  # fmt: skip
    logs = status.get("logs", "")
    storage = str(stored.get("storage") or (logs.partition(f"/jobs/{key}")[0] + f"/jobs/{key}" if logs else ""))
    if storage and not logs:
        last = max((one["number"] for one in result.get("attempts", ())), default=1)
        logs = f"{storage}/attempts/{last}/0/logs/std_log.txt"
    return run_record(result, logs, storage)
