"""Workspace: a namespace's own settings; without one the chart's values hold."""

from typing import Annotated

from stoker.api.common import Condition, LocalObjectReference, resource
from stoker.api.kube import ObjectMeta
from stoker.api.schema import Rule, Spec, field, rules


class Storage(Spec):
    """Where runs are stored."""

    url: Annotated[
        str,
        field(
            "`s3://bucket/prefix`; no other namespace may use the same.",
            min_length=6,
            max_length=1024,
            rules=(
                Rule(
                    "self.matches('^s3://[a-z0-9][a-z0-9.-]+(/.*)?$')",
                    "url is not a storage URL",
                    "write s3://bucket/prefix",
                ),
            ),
        ),
    ]


class Defaults(Spec):
    """What a job gets that does not say."""

    compute: Annotated[str | None, field("ComputeCluster of jobs without spec.compute.", max_length=63)] = None
    image: Annotated[str | None, field("Image of jobs whose environment names none.", max_length=1024)] = None
    timeout_seconds: Annotated[int | None, field("limits.timeoutSeconds of jobs without one.", ge=1, le=31536000)] = (
        None
    )


class Retention(Spec):
    """Which finished runs stay in storage once their TrainingJobs are gone. A run goes when neither of the two keeps it; with
    neither set no run goes. Snapshots that no run and no TrainingJob names go after 24 h."""

    keep_last: Annotated[
        int | None, field("Keep the newest so many finished runs of each experiment.", ge=0, le=1000000)
    ] = None
    keep_days: Annotated[int | None, field("Keep runs that ended within so many days.", ge=0, le=36500)] = None


class WorkspaceSpec(Spec):
    """Settings of one namespace."""

    storage: Annotated[
        Storage | None, field("Where runs are stored; missing: the chart's URL and the namespace's name.")
    ] = None
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...],
        field("Secrets with which images are looked up and pulled.", max_length=16, list_map_key="name"),
    ] = ()
    defaults: Annotated[Defaults, field("What a job gets that does not say.")] = Defaults()
    retention: Annotated[
        Retention | None,
        field("What the operator removes from storage, every few hours; missing: nothing. See `stoker gc --dry-run`."),
    ] = None
    weight: Annotated[
        int,
        field(
            "The namespace's part of a pool that several want: with 2 it comes to twice the nodes of one with 1. Whoever "
            "may edit Workspaces may raise it.",
            ge=1,
            le=1000,
        ),
    ] = 1


class WorkspaceStatus(Spec):
    """Whether the settings work."""

    observed_generation: Annotated[int, field("metadata.generation that this was computed from.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        field(
            "Facts for machines: Ready, Reconciling, Stalled, StoragePreflight (which promises hold on the store) and "
            "Retention (what was removed).",
            max_length=16,
            list_map_key="type",
        ),
    ] = ()


@resource(
    "Workspace",
    "workspaces",
    "sws",
    namespaced=True,
    columns=(
        ("Storage", "string", ".spec.storage.url"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Preflight", "string", '.status.conditions[?(@.type=="StoragePreflight")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    ),
)
@rules(
    Rule(
        "self.metadata.name == 'default'",
        "a namespace has one Workspace, and its name is `default`",
        "set metadata.name to default",
    )
)
class Workspace(Spec):
    """A namespace's own settings; without one the chart's values hold."""

    metadata: ObjectMeta
    spec: WorkspaceSpec = WorkspaceSpec()
    status: WorkspaceStatus = WorkspaceStatus()
