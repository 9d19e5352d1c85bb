"""Parts that several resources share."""

from typing import Annotated, Any, Literal

import msgspec

from stoker.api.schema import Spec, field, rules

ConditionStatus = Literal["True", "False", "Unknown"]

Quantity = Annotated[str, field(
    "A Kubernetes quantity, as a string: `500m`, `2`, `16Gi`.",
    max_length=32, pattern=r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]+)?$",
)]
Resources = dict[str, Quantity]
Labels = dict[str, str]


class Condition(Spec, omit_defaults=False):
    """One fact about an object, as Kubernetes' API conventions have it."""

    type: Annotated[str, field("What the fact is about, in CamelCase.", max_length=64)]
    status: Annotated[ConditionStatus, field("Whether it holds.")]
    reason: Annotated[str, field("Why, as one CamelCase word from a fixed set.", max_length=64)]
    message: Annotated[str, field("Why, for a person, with the fix where there is one.", max_length=4096)] = ""
    last_transition_time: Annotated[str, field("When the status last changed (RFC 3339, UTC).", max_length=40)] = ""
    observed_generation: Annotated[int, field("metadata.generation that this was computed from.")] = 0


class LocalObjectReference(Spec):
    """The name of an object in the same namespace."""

    name: Annotated[str, field("Name of the object.", min_length=1, max_length=253)]


class Toleration(Spec):
    """A Kubernetes toleration."""

    key: Annotated[str, field("Taint key; empty with operator Exists means every taint.", max_length=316)] = ""
    operator: Annotated[Literal["Equal", "Exists"], field("How key and value are compared.")] = "Equal"
    value: Annotated[str, field("Taint value.", max_length=63)] = ""
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None, field("Effect; missing means all effects.")
    ] = None
    toleration_seconds: Annotated[int | None, field("How long NoExecute is tolerated, in seconds.", ge=0)] = None


_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class PodShape(Spec):
    """What a user or a platform may add to a job's pods: Kubernetes' own fields, passed on as they are."""

    labels: Annotated[Labels, field("Labels added to the pods.", max_length=64)] = {}
    annotations: Annotated[Labels, field("Annotations added to the pods.", max_length=64)] = {}
    node_selector: Annotated[Labels, field("Node labels that the pods need.", max_length=64)] = {}
    tolerations: Annotated[tuple[Toleration, ...], field("Taints that the pods tolerate.", max_length=32)] = ()
    volumes: Annotated[tuple[dict[str, Any], ...], field(
        "Volumes (v1 Volume) added to the pods.", max_length=32, list_map_key="name",
        schema={"items": {**_OPEN, "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 63}}}},
    )] = ()
    volume_mounts: Annotated[tuple[dict[str, Any], ...], field(
        "Mounts (v1 VolumeMount) added to the training container.", max_length=32, list_map_key="mountPath",
        schema={"items": {**_OPEN, "required": ["name", "mountPath"], "properties": {
            "name": {"type": "string", "maxLength": 63}, "mountPath": {"type": "string", "maxLength": 1024}}}},
    )] = ()
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], field(
        "Secrets with which the pods' images are pulled.", max_length=16, list_map_key="name")] = ()
    security_context: Annotated[dict[str, Any] | None, field(
        "Security context (v1 PodSecurityContext) of the pods. Root needs allowRootPods on the ComputeCluster.",
        schema=_OPEN)] = None
    runtime_class_name: Annotated[str | None, field("RuntimeClass of the pods.", max_length=253)] = None
    priority_class_name: Annotated[str | None, field("PriorityClass of the pods.", max_length=253)] = None


def resource(
    kind: str, plural: str, short: str, *, namespaced: bool, columns: tuple[tuple[str, str, str], ...]
) -> Any:
    """Class decorator: what the CRD of a kind says beside its schema.

    columns: printer columns as (title, type, JSONPath).
    """

    def note(cls: type) -> type:
        KINDS[kind] = Kind(kind, plural, short, namespaced, columns, cls)
        return cls

    return note


class Kind(msgspec.Struct, frozen=True):
    """One of Stoker's kinds: its names, scope and printer columns."""

    kind: str
    plural: str
    short: str
    namespaced: bool
    columns: tuple[tuple[str, str, str], ...]
    type: type


#: Every kind by name, filled as the modules of this package are imported.
KINDS: dict[str, Kind] = {}

__all__ = [
    "KINDS", "Condition", "ConditionStatus", "Kind", "Labels", "LocalObjectReference", "PodShape", "Quantity",
    "Resources", "Toleration", "resource", "rules",
]
