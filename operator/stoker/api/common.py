"""Parts that several resources share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from stoker.api.schema import Rule, Spec, field, rules

T = TypeVar("T", bound=type)

#: An amount of money, as text, for a number in JSON is a float.
AMOUNT = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"

ConditionStatus = Literal["True", "False", "Unknown"]

if TYPE_CHECKING:
    _QuantityText = str
else:
    # `cpu: 2` is a number in YAML. The structs that hold quantities turn it into text as they are made (`as_text`).
    _QuantityText = str | int

Quantity = Annotated[
    _QuantityText,
    field(
        "A Kubernetes quantity: `500m`, `2`, `16Gi`.",
        ge=0,
        max_length=32,
        pattern=r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]+)?$",
        schema={"type": None, "anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
    ),
]
Resources = dict[str, Quantity]
Labels = dict[str, Annotated[str, field("Value.", max_length=63)]]
Annotations = dict[str, Annotated[str, field("Value.", max_length=16384)]]


def as_text(resources: Resources) -> Resources:
    """Quantities as text, whichever way they were written."""
    return {name: str(quantity) for name, quantity in resources.items()}


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


#: What Kubernetes allows as a key in a Secret's or ConfigMap's data.
DATA_KEY = r"^[-._A-Za-z0-9]+$"


class SecretKey(Spec):
    """One key of a Secret in the same namespace. The kubelet reads it; Stoker never does."""

    name: Annotated[str, field("Name of the Secret.", min_length=1, max_length=253)]
    key: Annotated[str, field("Key in its data.", min_length=1, max_length=253, pattern=DATA_KEY)]


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

    labels: Annotated[Labels, field("Labels added to the pods.", max_length=64)] = msgspec.field(default_factory=dict)
    annotations: Annotated[Annotations, field("Annotations added to the pods.", max_length=64)] = msgspec.field(
        default_factory=dict
    )
    node_selector: Annotated[Labels, field("Node labels that the pods need.", max_length=64)] = msgspec.field(
        default_factory=dict
    )
    tolerations: Annotated[tuple[Toleration, ...], field("Taints that the pods tolerate.", max_length=32)] = ()
    volumes: Annotated[
        tuple[dict[str, Any], ...],
        field(
            "Volumes (v1 Volume) added to the pods.",
            max_length=32,
            list_map_key="name",
            schema={
                "items": {
                    **_OPEN,
                    "required": ["name"],
                    "properties": {"name": {"description": "Name of the volume.", "type": "string", "maxLength": 63}},
                }
            },
        ),
    ] = ()
    volume_mounts: Annotated[
        tuple[dict[str, Any], ...],
        field(
            "Mounts (v1 VolumeMount) added to the training container.",
            max_length=32,
            list_map_key="mountPath",
            schema={
                "items": {
                    **_OPEN,
                    "required": ["name", "mountPath"],
                    "properties": {
                        "name": {"description": "Name of the volume.", "type": "string", "maxLength": 63},
                        "mountPath": {"description": "Where it is mounted.", "type": "string", "maxLength": 1024},
                    },
                }
            },
        ),
    ] = ()
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...],
        field("Secrets with which the pods' images are pulled.", max_length=16, list_map_key="name"),
    ] = ()
    security_context: Annotated[
        dict[str, Any] | None,
        field(
            "Security context (v1 PodSecurityContext) of the pods. Root needs allowRootPods on the ComputeCluster.",
            schema=_OPEN,
        ),
    ] = None
    runtime_class_name: Annotated[str | None, field("RuntimeClass of the pods.", max_length=253)] = None
    priority_class_name: Annotated[str | None, field("PriorityClass of the pods.", max_length=253)] = None


def resource(
    kind: str,
    plural: str,
    short: str,
    *,
    namespaced: bool,
    columns: tuple[tuple[str, str, str], ...],
    first_status: Mapping[str, Any] | None = None,
) -> Any:
    """Class decorator: what the CRD of a kind says beside its schema.

    columns: printer columns as (title, type, JSONPath). first_status: what an object shows before a controller saw it.
    """

    def note(cls: T) -> T:
        KINDS[kind] = Kind(kind, plural, short, namespaced, columns, cls, first_status)
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
    first_status: Mapping[str, Any] | None = None


#: Every kind by name, filled as the modules of this package are imported.
KINDS: dict[str, Kind] = {}

__all__ = [
    "DATA_KEY",
    "KINDS",
    "Annotations",
    "Condition",
    "ConditionStatus",
    "Kind",
    "Labels",
    "LocalObjectReference",
    "PodShape",
    "Quantity",
    "Resources",
    "Rule",
    "SecretKey",
    "Toleration",
    "as_text",
    "resource",
    "rules",
]
