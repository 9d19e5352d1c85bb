"""`stoker compute show`: one pool."""

from collections.abc import Mapping
from typing import Any

import click

from stoker.cli.options import Common, common


@click.command(epilog="\b\nExamples:\n  stoker compute show gpu\n  stoker compute show gpu -o yaml")
@click.argument("name")
@common
def show(common: Common, name: str) -> None:
    """Show the pool NAME: its nodes by state, its types, what it used, its problems."""
    from stoker.cli.compute.pools import line_of, one

    found = one(common.cluster(), name)
    spec, status = found.get("spec") or {}, found.get("status") or {}
    value = {
        **line_of(found), "waitingJobs": status.get("waitingJobs") or {}, "problems": status.get("problems") or [],
        "backoff": status.get("backoff") or [], "intents": status.get("intents") or [], "usage": status.get("usage"),
        "learned": status.get("learned"), "spec": spec,
    }  # fmt: skip
    common.output.emit(value, lambda: _print(value), [name])


def _print(value: Mapping[str, Any]) -> None:
    spec, usage, learned = value["spec"], value["usage"] or {}, value["learned"] or {}
    idle = f"{spec.get('idleSecondsBeforeScaleDown', 120)} s"
    if spec.get("idlePolicy") == "Learned":
        idle = f"learned: {learned.get('idleSeconds', '?')} s now, of {learned.get('pauses', 0)} pauses"
    states = ", ".join(f"{count} {state}" for state, count in value["nodes"].items() if count) or "none"
    by_namespace = ", ".join(f"{one['namespace']} {one['cost']}" for one in usage.get("monthCosts") or ())
    waiting = ", ".join(f"{count} {reason}" for reason, count in value["waitingJobs"].items())
    rows = [
        ("name", value["name"]), ("provider", value["provider"]), ("ready", f"{value['ready']} {value['reason']}".strip()),
        ("why", value["message"]), ("nodes", f"{value['current']} ({states}), wanted {value['target']}"),
        ("may have", f"{value['min']} to {value['max']}"), ("idle time", idle), ("jobs waiting", waiting),
        ("today", f"{usage['todayNodeHours']} node-hours, cost {usage['todayCost']}" if usage else ""),
        (
            "in all",
            f"{usage['nodeHours']} node-hours ({usage.get('busyNodeHours', '0')} busy, {usage['idleNodeHours']} idle, "
            f"{usage['bootNodeHours']} booting), cost {usage['cost']}" if usage else "",
        ),
        ("this month", f"cost of jobs: {by_namespace}" if by_namespace else ""),
    ]  # fmt: skip
    for label, text in rows:
        if text:
            print(f"{label:<15} {text}")
    for kind in spec.get("instanceTypes") or ():
        price = f", {kind['pricePerHour']} an hour" if kind.get("pricePerHour") else ""
        offers = ", ".join(f"{name} {amount}" for name, amount in (kind.get("resources") or {}).items())
        print(f"{'type':<15} {kind['name']}: {offers} ({kind.get('tier', 'Dedicated')}{price})")
    for intent in value["intents"]:
        what = f"{intent['count']} of {intent['instanceType']}" if intent.get("count") else ", ".join(intent["ids"])
        print(f"{'ordered':<15} {intent['kind']} {what} ({intent['token']}, since {intent['since']})")
    for problem in value["problems"]:
        print(f"{'problem':<15} {problem['reason']}: {problem.get('message', '')} (since {problem.get('since', '')})")
