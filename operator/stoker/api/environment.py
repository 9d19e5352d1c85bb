"""Environment: what a command runs in, named by its content."""

from typing import Annotated

from stoker.api.common import Condition, LocalObjectReference, resource
from stoker.api.kube import ObjectMeta
from stoker.api.schema import Rule, Spec, field, rules


class EnvironmentSpec(Spec):
    """An image, and the packages that it is known to hold."""

    image: Annotated[
        str | None,
        field(
            "Image reference, with a tag or a digest. In a job it may be missing where the Workspace names one (defaults.image).",
            min_length=1,
            max_length=1024,
            rules=(
                Rule(
                    "!self.matches('\\\\s')",
                    "image has a blank in it",
                    "write one reference, such as registry.example.com/team/train:1",
                ),
            ),
        ),
    ] = None
    pip: Annotated[
        tuple[str, ...],
        field(
            "Packages the command needs (PEP 508). In a cluster they must be in the image, which is checked before the "
            "command starts; on a laptop they are installed into a cached venv.",
            max_length=256,
            schema={"items": {"type": "string", "minLength": 1, "maxLength": 512}},
        ),
    ] = ()
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...],
        field("Secrets with which the image is looked up and pulled.", max_length=16, list_map_key="name"),
    ] = ()


class ResolvedImage(Spec):
    """What an image reference means on one platform."""

    platform: Annotated[str, field("`os/architecture`.", max_length=64)]
    digest: Annotated[str, field("Digest of the platform's manifest.", max_length=71)] = ""
    source: Annotated[str, field("Where it came from: `given`.", max_length=32)] = ""


class EnvironmentStatus(Spec):
    """What the registry says of the environment."""

    observed_generation: Annotated[int, field("metadata.generation that this was computed from.")] = 0
    conditions: Annotated[tuple[Condition, ...], field("Facts for machines.", max_length=16, list_map_key="type")] = ()
    images: Annotated[
        tuple[ResolvedImage, ...], field("The image on each platform.", max_length=8, list_map_key="platform")
    ] = ()


@resource(
    "Environment",
    "environments",
    "senv",
    namespaced=True,
    columns=(
        ("Image", "string", ".spec.image"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Age", "date", ".metadata.creationTimestamp"),
    ),
)
@rules(
    Rule(
        "has(self.spec.image)",
        "image is missing: a cluster runs images as they are",
        "name an image that holds the packages; a list of packages alone works with `stoker run --compute local`",
        at=".spec.image",
    )
)
class Environment(Spec):
    """What a command runs in, named by its content."""

    metadata: ObjectMeta
    spec: EnvironmentSpec
    status: EnvironmentStatus = EnvironmentStatus()
