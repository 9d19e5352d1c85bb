"""A job's plan and the facts that it rests on, as plain data for people: `stoker why --plan`.

It names things and says how they stand. What may carry a secret is left out: values of variables, texts of code and of
records, whole manifests.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.kube import BatchJob, Claim, Node, Pod
from stoker.api.trainingjob import TrainingJobStatus
from stoker.core import times
from stoker.core.cluster.view import Demand
from stoker.core.plan import Action, Ask, Create, Found, InlineSnapshot, Lookup, Plan, Question, SnapshotUrl
from stoker.core.serverless import Choice
from stoker.core.trainingjob import attempts, queue, remains
from stoker.core.trainingjob.plan import why
from stoker.core.trainingjob.view import JobView, Placement

Plain = dict[str, Any]


def explain(view: JobView, plan: Plan[TrainingJobStatus], demand: Demand | None, now: float) -> Plain:
    """The plan that would be made of this view now, and the view. plan, demand: what the planner says of it."""
    job, waiting = view.job, why(view, now)
    return {
        "name": job.metadata.name,
        "namespace": job.metadata.namespace,
        "uid": job.metadata.uid,
        "madeAt": times.rfc3339(now),
        "plan": {
            "actions": [_action(action) for action in plan.actions],
            "status": None if plan.status is None else msgspec.to_builtins(plan.status),
            "wakeAt": times.rfc3339(plan.wake_at) or None,
        },
        "waiting": None if waiting is None else msgspec.to_builtins(waiting),
        "facts": {
            "phase": job.status.phase,
            "attempts": len(job.status.attempts),
            "storage": view.workspace.storage_url,
            "workspaceProblem": list(view.workspace.problem) if view.workspace.problem else None,
            "pool": _pool(view),
            "choice": None if view.choice is None else _choice(view.choice),
            "wants": None if demand is None else _wants(demand),
            "placement": None if view.placement is None else _placement(view.placement),
            "queue": _queue(view),
            "children": [_child(child) for child in view.children],
            "pods": [_pod(pod) for pod in view.pods],
            "claims": [_claim(claim) for claim in view.claims],
            "salvages": [_salvage(job) for job in view.salvages],
            "nodes": [_node(node) for _, node in sorted(view.nodes.items())],
            "events": [{"reason": event.reason, "message": event.message} for event in view.events],
            "answers": list(_answers(view)),
        },
    }


def _action(action: Action) -> Plain:
    if isinstance(action, Ask):
        return {"action": "Ask", **_question(action.question)}
    if isinstance(action, Create):
        return {"action": "Create", **_manifest(action.manifest)}
    return {"action": type(action).__name__, **{field.name: getattr(action, field.name) for field in fields(action)}}


def _manifest(manifest: Mapping[str, Any]) -> Plain:
    """What a manifest makes: never its variables."""
    template = manifest.get("spec", {}).get("template", {}).get("spec", {})
    containers = (*template.get("initContainers", ()), *template.get("containers", ()))
    shown = {"kind": manifest["kind"], "name": manifest["metadata"]["name"]}
    if containers:
        shown["images"] = {one["name"]: one["image"] for one in containers}
        shown["nodes"] = list(attempts.nodes_named(template))
    return shown


def _question(question: Question) -> Plain:
    """A question by its name and what it is about. Of inline code the paths alone."""
    if isinstance(question, InlineSnapshot):
        return {"question": "InlineSnapshot", "about": {"files": [path for path, _ in question.files]}}
    # Members that do not compare are whole records, which are stored where those who may read them find them.
    told = (field.name for field in fields(question) if field.compare and field.name != "namespace")
    about = {name: msgspec.to_builtins(value) for name in told if (value := getattr(question, name)) not in ("", ())}
    return {"question": type(question).__name__, "about": about}


def _answers(view: JobView) -> Iterator[Plain]:
    """What was asked, in a fixed order, with what came of it; no answer yet is None."""
    for question in sorted(view.answers, key=repr):
        answer, shown = view.answers.get(question), _question(question)
        if isinstance(answer, Found):
            yield {**shown, "answer": "Found", "value": _value(question, answer.value)}
        elif answer is None:
            yield {**shown, "answer": None}
        else:
            yield {
                **shown, "answer": type(answer).__name__, "reason": answer.reason, "message": answer.message,
                "fix": answer.fix, "askAgainAt": times.rfc3339(answer.retry_at) or None,
            }  # fmt: skip


def _value(question: Question, value: object) -> str | bool | None:
    """What an answer says, where it is one word. A signed URL is never told: whoever has it may read."""
    if isinstance(question, SnapshotUrl):
        return None
    if isinstance(value, Lookup):
        return value.image.image if value.image is not None else "not there"
    return value if isinstance(value, str | bool) else None


def _pool(view: JobView) -> Plain | None:
    if view.cluster is None:
        return None if not view.compute else {"name": view.compute, "exists": False, "others": list(view.clusters)}
    spec, status = view.cluster.spec, view.cluster.status
    return {
        "name": view.cluster.metadata.name, "exists": True, "provider": spec.provider.type,
        "minInstances": spec.min_instances, "maxInstances": spec.max_instances,
        "allocationState": status.allocation_state, "currentNodes": status.current_nodes,
        "targetNodes": status.target_nodes, "nodes": msgspec.to_builtins(status.nodes),
        "waitingJobs": dict(status.waiting_jobs),
        "problems": [{"reason": one.reason, "message": one.message} for one in status.problems],
    }  # fmt: skip


def _choice(choice: Choice) -> Plain:
    """What compute: serverless came to, and each other pool with why not."""
    return {
        "compute": choice.compute or None, "instanceType": choice.instance_type or None, "message": choice.message,
        "rejected": dict(choice.rejected),
    }  # fmt: skip


def _wants(demand: Demand) -> Plain:
    return {"attempt": demand.attempt, "nodes": demand.count, "instanceType": demand.instance_type}


def _placement(placement: Placement) -> Plain:
    return {
        "granted": placement.granted, "nodes": list(placement.nodes), "reason": placement.reason,
        "message": placement.message, "fix": placement.fix,
    }  # fmt: skip


def _queue(view: JobView) -> Plain | None:
    """What Kueue says; None for a job that has nothing to do with it."""
    name, queues = queue.queue_of(view), view.queues
    if queues is None or not (name or queues.workloads):
        return None if not name else {"name": name}
    return {
        "name": name, "stokersChecks": sorted(queues.checks),
        "workloads": [
            {
                "name": one.metadata.name, "active": one.spec.active,
                "checks": [{"name": check.name, "state": check.state} for check in one.status.admission_checks],
                "conditions": [f"{told.type}={told.status}: {told.reason}" for told in one.status.conditions],
            }
            for _, one in sorted(queues.workloads.items())
        ],
    }  # fmt: skip


def _child(child: BatchJob) -> Plain:
    ended = (one.type for one in child.status.conditions if one.type in ("Complete", "Failed") and one.status == "True")
    return {
        "name": child.metadata.name, "attempt": attempts.attempt_of(child.metadata.labels),
        "createdAt": child.metadata.creation_timestamp, "ended": next(ended, None),
        "deleting": child.metadata.deletion_timestamp is not None, "suspended": child.spec.suspend,
    }  # fmt: skip


def _pod(pod: Pod) -> Plain:
    rank = pod.metadata.labels.get(names.LABEL_RANK, "")
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    waiting = [(one.name, one.state.waiting) for one in statuses if one.state.waiting is not None]
    return {
        "name": pod.metadata.name, "attempt": attempts.attempt_of(pod.metadata.labels),
        "rank": int(rank) if rank.isdecimal() else None, "phase": pod.status.phase, "node": pod.spec.node_name or None,
        "reason": pod.status.reason, "deleting": pod.metadata.deletion_timestamp is not None,
        "waiting": [{"container": name, "reason": one.reason, "message": one.message} for name, one in waiting],
    }  # fmt: skip


def _claim(claim: Claim) -> Plain:
    return {
        "name": claim.metadata.name, "attempt": remains.attempt_of(claim), "rank": remains.rank_of(claim),
        "phase": claim.status.phase, "owners": [owner.kind for owner in claim.metadata.owner_references],
        "deleting": claim.metadata.deletion_timestamp is not None,
    }  # fmt: skip


def _salvage(job: BatchJob) -> Plain:
    return {
        "name": job.metadata.name, "createdAt": job.metadata.creation_timestamp, "ended": remains.ended(job),
        "deleting": job.metadata.deletion_timestamp is not None,
    }  # fmt: skip


def _node(node: Node) -> Plain:
    ready = next((one for one in node.status.conditions if one.type == "Ready"), None)
    return {
        "name": node.metadata.name, "ready": ready.status if ready else "Unknown",
        "since": ready.last_transition_time if ready else None, "cordoned": node.spec.unschedulable,
        "taints": [f"{one.key}={one.value}:{one.effect}" for one in node.spec.taints],
    }  # fmt: skip
