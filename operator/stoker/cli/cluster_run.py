"""A run on a cluster, from the plan to the last line."""

import time
from typing import TYPE_CHECKING, Any

from stoker.cli.options import Common
from stoker.cli.output import Output
from stoker.cli.plan import confirm_size, print_plan
from stoker.sdk import settings, there
from stoker.sdk.draft import Draft
from stoker.sdk.outcome import exit_code
from stoker.sdk.prepare import Tree
from stoker.sdk.prose import tree_words

if TYPE_CHECKING:
    from stoker.sdk.client import Cluster


def run_in_cluster(
    common: Common, draft: Draft, compute: str, *, dry_run: bool, detach: bool, yes: bool, ignore: tuple[str, ...],
    allow: tuple[str, ...],
) -> int:  # fmt: skip
    """Plan, send, create, follow; the exit code."""
    from stoker.cli import run

    namespace = common.namespace or draft.metadata.get("namespace")
    prepared, document = there.planned(draft, compute, namespace, ignore=ignore, allow=allow)
    name = document["metadata"]["name"]
    if dry_run:
        # A dry run needs no cluster: what it prints may be meant for one that is not reachable from here.
        print_plan(common.output, prepared, compute, "")
        run.emit_dry(common, prepared, document, name)
        return 0
    common.namespace = namespace
    cluster = common.cluster()
    print_plan(common.output, prepared, *there.look_up(cluster, prepared, compute))
    confirm_size(common.output, prepared.trees, yes)
    job = there.submit(cluster, prepared, document, _Sending(common.output).told)
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


class _Sending:
    """Tells of each tree how long its sending took."""

    def __init__(self, output: Output) -> None:
        self._output, self._begun = output, time.monotonic()

    def told(self, what: str, tree: Tree, sent: bool) -> None:
        label = "upload" if what == "snapshot" else what
        how = "sent" if sent else "unchanged, nothing sent"
        now = time.monotonic()
        self._output.step(label, tree_words(tree), how, now - self._begun)
        self._begun = now


def follow(common: Common, cluster: "Cluster", job: dict[str, Any]) -> int:
    """Follow a run to its end, print its record, and return its exit code. Ctrl-C leaves it running."""
    from stoker.cli import run
    from stoker.sdk.follow import Follower

    name, began = job["metadata"]["name"], time.monotonic()
    follower = Follower(cluster, job, common.output)
    try:
        ended = follower.run()
        record = there.record_of(cluster, ended, follower.key)
    except KeyboardInterrupt:
        common.output.step("detached", name, "it goes on without this terminal")
        for line in (f"stoker logs {name} --wait", f"stoker why {name}", f"stoker cancel {name}"):
            common.output.note(line)
        return 0
    run.finish(common, record, time.monotonic() - began)
    return exit_code(record)
