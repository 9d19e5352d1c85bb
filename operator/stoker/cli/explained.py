"""What `stoker why --plan` prints: the plan, then the facts, a line each."""

from collections.abc import Iterator, Mapping
from typing import Any

from stoker.cli.output import plural

Plain = Mapping[str, Any]


def show_plan(told: Plain) -> None:
    """Print what the operator said of a job's plan."""
    for line in lines(told):
        print(line)


def lines(told: Plain) -> Iterator[str]:
    """The plan and its facts for people."""
    plan, facts, waiting = told["plan"], told["facts"], told.get("waiting")
    yield f"plan of {told['name']}, made at {told['madeAt']} by {told.get('leader') or 'the operator'}"
    for action in plan["actions"]:
        yield f"  do     {_action(action)}"
    if plan["status"]:
        reason = plan["status"].get("reason") or ((plan["status"].get("waiting") or {}).get("reason"))
        yield f"  write  status {plan['status'].get('phase', 'Pending')}{f' ({reason})' if reason else ''}"
    if not plan["actions"] and not plan["status"]:
        yield "  do     nothing"
    yield f"  wake   {plan['wakeAt'] or 'at the next change'}"
    if waiting:
        yield f"waits  {waiting['reason']}: {waiting.get('message', '')}"
        if waiting.get("fix"):
            yield f"  fix: {waiting['fix']}"
    yield "because"
    yield f"  phase {facts['phase']}, {plural(facts['attempts'], 'attempt')} so far; storage {facts['storage'] or 'none'}"
    if facts["workspaceProblem"]:
        yield f"  workspace: {': '.join(facts['workspaceProblem'])}"
    yield from (f"  {line}" for line in _needs(facts))
    yield from (f"  {line}" for line in _seen(facts))
    for one in facts["answers"]:
        yield f"  asked {_question(one)}: {_answer(one)}"


def _action(action: Plain) -> str:
    if action["action"] == "Ask":
        return f"Ask {_question(action)}"
    if action["action"] == "Create":
        nodes = f" on {', '.join(action['nodes'])}" if action.get("nodes") else ""
        return f"Create {action['kind']}/{action['name']}{nodes}"
    rest = " ".join(f"{name}={value}" for name, value in action.items() if name != "action" and value != "")
    return f"{action['action']} {rest}"


def _question(asked: Plain) -> str:
    about = ", ".join(f"{name} {_short(value)}" for name, value in asked["about"].items())
    return f"{asked['question']} ({about})" if about else str(asked["question"])


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("url") or value)
    return ", ".join(map(_short, value)) if isinstance(value, list) else str(value)


def _answer(one: Plain) -> str:
    if one["answer"] == "Found":
        return f"found, {one['value']}" if isinstance(one["value"], str) else "found"
    if one["answer"] is None:
        return "no answer yet"
    again = f"; asked again at {one['askAgainAt']}" if one["askAgainAt"] else ""
    return f"{one['answer'].lower()}, {one['reason']}: {one['message']}{again}"


def _needs(facts: Plain) -> Iterator[str]:
    pool, wants, placement = facts["pool"], facts["wants"], facts["placement"]
    # An operator of before there were any tells of none.
    if choice := facts.get("choice"):
        yield f"serverless: {choice['message'] or 'no pool fits'}"
        yield from (f"serverless: not {name}: {why}" for name, why in choice["rejected"].items())
    if pool is None:
        yield "pool: none is named"
    elif not pool["exists"]:
        yield f"pool {pool['name']}: does not exist; there are: {', '.join(pool['others']) or 'none'}"
    else:
        waiting = ", ".join(f"{count} {reason}" for reason, count in pool["waitingJobs"].items()) or "none"
        yield (
            f"pool {pool['name']} ({pool['provider']}): {pool['currentNodes']} of {pool['targetNodes']} wanted nodes, "
            f"at most {pool['maxInstances']}, {pool['allocationState']}; jobs that wait: {waiting}"
        )
        for problem in pool["problems"]:
            yield f"pool {pool['name']}: {problem['reason']}: {problem['message']}"
    if wants:
        kind = f" of type {wants['instanceType']}" if wants["instanceType"] else ""
        yield f"wants {plural(wants['nodes'], 'node')}{kind} for attempt {wants['attempt']}"
    if placement:
        given = f"gives {', '.join(placement['nodes']) or 'leave'}; " if placement["granted"] else ""
        given = (given + placement["message"]).removesuffix("; ")
        yield f"the pool's plan: {given}"


def _seen(facts: Plain) -> Iterator[str]:
    for child in facts["children"]:
        how = child["ended"] or ("being deleted" if child["deleting"] else "open")
        yield f"Job/{child['name']}: attempt {child['attempt']}, {how}"
    for pod in facts["pods"]:
        words = "".join(f"; {one['container']}: {one['reason']} {one['message']}".rstrip() for one in pod["waiting"])
        yield f"Pod/{pod['name']}: rank {pod['rank']}, {pod['phase']} on {pod['node'] or 'no node'}{words}"
    # An operator of before there were any tells of none.
    for claim in facts.get("claims", ()):
        how = "being deleted" if claim["deleting"] else f"{claim['phase']}, owned by {' and '.join(claim['owners'])}"
        yield f"PersistentVolumeClaim/{claim['name']}: rank {claim['rank']} of attempt {claim['attempt']}, {how}"
    for job in facts.get("salvages", ()):
        yield f"Job/{job['name']}: saves what a lost rank left, {'ended' if job['ended'] else 'open'}"
    for node in facts["nodes"]:
        yield f"Node/{node['name']}: ready {node['ready']}{', cordoned' if node['cordoned'] else ''}"
    for event in facts["events"]:
        yield f"event {event['reason']}: {event['message']}"
