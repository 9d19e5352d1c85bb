"""A run on a cluster, from the plan to the last line."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stoker.api.names import SERVERLESS
from stoker.cli.options import Common
from stoker.cli.plan import confirm_size, print_plan, tree_words
from stoker.errors import BadInput, StokerError
from stoker.sdk import ask, manifest, settings
from stoker.sdk.draft import Draft
from stoker.sdk.prepare import Prepared, prepare

if TYPE_CHECKING:
    from stoker.core.serverless import Choice
    from stoker.sdk.client import Cluster


def run_in_cluster(
    common: Common, draft: Draft, compute: str, *, dry_run: bool, detach: bool, yes: bool, ignore: tuple[str, ...],
    allow: tuple[str, ...],
) -> int:  # fmt: skip
    """Plan, send, create, follow; the exit code."""
    from stoker.cli import run

    draft = replace(draft, compute=compute)
    ask.check_for_cluster(draft)
    prepared = prepare(draft, with_inputs=True, extra_ignore=ignore, allow_secrets=allow)
    name = draft.name or manifest.generated_name(draft.base)
    digests = {key: tree.digest for key, tree in prepared.inputs.items()}
    namespace = common.namespace or draft.metadata.get("namespace")
    document = manifest.plain_data(manifest.write(draft, name, namespace, prepared.snapshot, digests))
    manifest.check("TrainingJob", document, draft.source)
    if dry_run:
        # A dry run needs no cluster: what it prints may be meant for one that is not reachable from here.
        print_plan(common.output, prepared, compute, "")
        run.emit_dry(common, prepared, document, name)
        return 0
    common.namespace = namespace
    cluster = common.cluster()
    document["metadata"]["namespace"] = cluster.namespace
    _look_up(common, cluster, prepared, compute)
    confirm_size(common.output, prepared.trees, yes)
    _send(common, cluster, prepared)
    job = cluster.submit(document)
    settings.remember_last(
        common.here,
        {"name": name, "namespace": cluster.namespace, "context": cluster.kube.context, "compute": compute},
    )
    if detach:
        common.output.step("created", name, f"stoker logs {name} --wait · stoker why {name}")
        value = {"name": name, "namespace": cluster.namespace, "uid": job["metadata"]["uid"], "phase": "Pending"}
        common.output.emit(value, lambda: print(name), [name])
        return 0
    return follow(common, cluster, job)


def _look_up(common: Common, cluster: "Cluster", prepared: Prepared, compute: str) -> None:
    """What the run names must be there before anything is sent; then the plan is printed."""
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
    print_plan(common.output, prepared, compute, detail)


def _chosen(cluster: "Cluster", prepared: Prepared) -> "Choice | None":
    """What serverless comes to as things are, None when we may not look. Raises BadInput when no pool fits."""
    import msgspec

    from stoker.api.computecluster import ComputeCluster
    from stoker.api.trainingjob import CommandJob
    from stoker.core.serverless import choose

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


def _send(common: Common, cluster: "Cluster", prepared: Prepared) -> None:
    for what, tree in prepared.trees:
        begun = time.monotonic()
        sent = cluster.server().push(tree)
        label = "upload" if what == "snapshot" else what
        how = "sent" if sent else "unchanged, nothing sent"
        common.output.step(label, tree_words(tree), how, time.monotonic() - begun)


def follow(common: Common, cluster: "Cluster", job: dict[str, Any]) -> int:
    """Follow a run to its end, print its record, and return its exit code. Ctrl-C leaves it running."""
    from stoker.cli import run
    from stoker.sdk.follow import Follower

    name, began = job["metadata"]["name"], time.monotonic()
    follower = Follower(cluster, job, common.output)
    try:
        ended = follower.run()
        record = record_of(cluster, ended, follower.key)
    except KeyboardInterrupt:
        common.output.step("detached", name, "it goes on without this terminal")
        for line in (f"stoker logs {name} --wait", f"stoker why {name}", f"stoker cancel {name}"):
            common.output.note(line)
        return 0
    run.finish(common, record, time.monotonic() - began)
    return run.exit_code(record)


def record_of(cluster: "Cluster", job: dict[str, Any] | None, key: str) -> dict[str, Any]:
    """The record of a finished run: from the store, and from the object what the store does not have."""
    from stoker.cli.run import run_record

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
