"""What the environment that a run names means, where that is for the cluster to say."""

from dataclasses import replace

from stoker.errors import BadInput, StokerError
from stoker.sdk.azureml import labels
from stoker.sdk.definitions import settled
from stoker.sdk.draft import Draft
from stoker.sdk.environments import from_spec
from stoker.sdk.session import Session


def with_meaning(session: Session, draft: Draft, *, asks_cluster: bool) -> Draft:
    """The draft with the environment that a reference into Azure ML means."""
    if draft.environment is None or draft.environment.kind != "label":
        return draft
    known = labels.NOBODY_ASKED
    if asks_cluster:
        cluster = session.cluster()
        there = sorted(cluster.environments(), key=lambda one: str(one["metadata"]["creationTimestamp"]))
        names = tuple(str(one["metadata"]["name"]) for one in there)
        known = labels.Known(cluster.workspace().get("environmentAliases") or {}, names)
    environment, warnings = labels.resolved(draft.environment, known)
    for line in warnings:
        session.listener.warn(line)
    return replace(draft, environment=environment)


def definition_of_name(session: Session, draft: Draft) -> Draft:
    """An Environment of the cluster means its definition here."""
    asked = draft.environment
    if asked is None or asked.kind != "name":
        return draft
    try:
        spec = session.cluster().environment(asked.name)
    except StokerError as error:
        fix = "name a file, a list of packages or system for a local run"
        raise BadInput(
            "environment", f"Environment {asked.name!r} could not be looked up ({error})", fix, draft.source
        ) from error
    found = from_spec(spec, f"Environment/{asked.name}")
    return replace(draft, environment=settled(found, draft.code, draft.inline))
