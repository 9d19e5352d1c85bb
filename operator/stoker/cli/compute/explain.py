"""`stoker compute explain`: why each node of a pool is kept, and each job waits."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import table


@click.command(epilog="\b\nExamples:\n  stoker compute explain gpu\n  stoker compute explain gpu -o json")
@click.argument("name")
@common
def explain(common: Common, name: str) -> None:
    """Say of each node of the pool NAME why it is kept, since when, and what comes next; and the same of each job there.

    It is what the operator saw last: nodes without a job come first, at most 200 are told of.
    """
    from stoker.cli.compute.pools import jobs_on, one

    cluster = common.cluster()
    status = one(cluster, name).get("status") or {}
    jobs, whole = jobs_on(cluster, name)
    called = {job["metadata"]["uid"]: f"{job['metadata']['namespace']}/{job['metadata']['name']}" for job in jobs}
    nodes = [{**member, "job": called.get(member.get("job", ""), "")} for member in status.get("members") or ()]
    waiting = sorted(
        (
            {"job": called[job["metadata"]["uid"]], "phase": job["status"].get("phase", ""), **job["status"]["waiting"]}
            for job in jobs
            if (job.get("status") or {}).get("waiting")
        ),
        key=lambda one: str(one.get("since", "")),
    )
    if not whole:
        common.output.note(f"you may see jobs of namespace {cluster.namespace} only")
    value = {"name": name, "nodes": nodes, "waiting": waiting, "problems": status.get("problems") or []}
    common.output.emit(value, lambda: _print(common, value), [node["name"] for node in nodes])


def _print(common: Common, value: Mapping[str, Any]) -> None:
    nodes: Sequence[Mapping[str, Any]] = value["nodes"]
    if nodes:
        rows = [
            [
                node["name"],
                node["state"],
                node["reason"],
                node.get("since", ""),
                node.get("until", ""),
                f"{node['job']}: {node['message']}" if node["job"] else node.get("message", ""),
            ]
            for node in nodes
        ]
        table(rows, ["NODE", "STATE", "REASON", "SINCE", "UNTIL", "WHAT COMES NEXT"])
    else:
        common.output.note("the pool has no nodes")
    for one in value["waiting"]:
        print(f"\n{one['job']} waits since {one.get('since', '?')}: {one.get('reason', '')}")
        print(f"  {one.get('message', '')}")
        if one.get("fix"):
            print(f"  fix: {one['fix']}")
    for problem in value["problems"]:
        print(f"\nproblem since {problem.get('since', '?')}: {problem['reason']}\n  {problem.get('message', '')}")
