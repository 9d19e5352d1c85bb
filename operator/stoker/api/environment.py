"""Environment: what a command runs in, named by its content."""

from typing import Annotated, Any, Literal

from stoker.api.common import Condition, LocalObjectReference, SecretKey, resource
from stoker.api.kube import ObjectMeta
from stoker.api.schema import Rule, Spec, field, rules

#: Where an image may come from: as it was given, found in a registry, or built.
ImageSource = Literal["given", "workspace", "global", "built"]
Platform = Annotated[Literal["linux/amd64", "linux/arm64"], field("`os/architecture`.")]

_INSIDE_THE_CODE = Rule(
    "!self.startsWith('/') && !self.contains('\\\\') && !self.split('/').exists(part, part == '..')",
    "the path is absolute, has a backslash, or leaves the code folder with `..`",
    "write a path inside the code folder, with slashes, such as envs/conda.yaml",
)
_NO_BLANK = Rule(
    "!self.matches('\\\\s')",
    "image has a blank in it",
    "write one reference, such as registry.example.com/team/train:1",
)


class Build(Spec):
    """How the image is made, beyond what goes into it."""

    dockerfile: Annotated[
        str | None,
        field(
            "A Dockerfile in the job's code. It has one FROM, which is the base image; its other lines are the docker steps. "
            "Its folder is the context, unless `context` names another.",
            min_length=1,
            max_length=1024,
            rules=(_INSIDE_THE_CODE,),
        ),
    ] = None
    bytecode: Annotated[
        bool,
        field(
            "Whether modules are compiled when the image is made, all but those in folders called test or tests: a larger "
            "image, and a first import that is quicker. No part of the key: an image that exists stays as it is."
        ),
    ] = True


class BuildSecret(Spec):
    """A secret that a docker step may read while it runs, and that is not in the image. Its id is part of the key, what it
    says is not."""

    id: Annotated[
        str,
        field(
            "Name of the secret in `RUN --mount=type=secret,id=...`.",
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        ),
    ]
    secret_ref: Annotated[SecretKey, field("Where it lies.")]


@rules(
    Rule(
        "!has(self.pip) || size(self.pip) == 0 || !has(self.pipFile)",
        "pip and pipFile are two lists of packages",
        "keep one; a file may name others with `-r other.txt`",
        at=".pipFile",
    ),
    Rule(
        "!has(self.image) || !has(self.build) || !has(self.build.dockerfile)",
        "image and build.dockerfile are two bases: the file has a FROM of its own",
        "remove image, or remove build.dockerfile and write its other lines as dockerSteps",
        at=".image",
    ),
    Rule(
        "!has(self.dockerSteps) || size(self.dockerSteps) == 0 || !has(self.build) || !has(self.build.dockerfile)",
        "dockerSteps and build.dockerfile are two lists of steps",
        "keep one",
        at=".dockerSteps",
    ),
    Rule(
        "!has(self.context) || (has(self.dockerSteps) && size(self.dockerSteps) > 0) "
        "|| (has(self.build) && has(self.build.dockerfile))",
        "context belongs to docker steps, and there are none",
        "remove context; the job's code is in its working folder anyway",
        at=".context",
    ),
    Rule(
        "!has(self.secrets) || size(self.secrets) == 0 || (has(self.dockerSteps) && size(self.dockerSteps) > 0) "
        "|| (has(self.build) && has(self.build.dockerfile))",
        "secrets belong to docker steps, and there are none",
        "remove secrets; credentials of package indexes belong into the Workspace's mirrors.secretRef",
        at=".secrets",
    ),
)
class EnvironmentSpec(Spec):
    """A base image, docker steps on top of it, and packages. An image alone is run as it is; with more an image is found by
    the content of this spec, or built."""

    image: Annotated[
        str | None,
        field(
            "Image reference, with a tag or a digest: the base of what is built. It may be missing where the Workspace "
            "names one (defaults.image).",
            min_length=1,
            max_length=1024,
            rules=(_NO_BLANK,),
        ),
    ] = None
    docker_steps: Annotated[
        tuple[str, ...],
        field(
            "Instructions of a Dockerfile that come after the base, in order: RUN, COPY, ENV and so on, but no FROM.",
            max_length=128,
            schema={"items": {"type": "string", "minLength": 1, "maxLength": 32768}},
        ),
    ] = ()
    conda: Annotated[
        dict[str, Any] | str | None,
        field(
            "What a conda file says (`channels`, `dependencies`), as a mapping or as the file's text. Its `pip` section is "
            "installed too; `name` and `prefix` mean nothing here.",
            schema={"type": None, "x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
    conda_file: Annotated[
        str | None,
        field(
            "A conda file in the job's code, instead of `conda`.",
            min_length=1,
            max_length=1024,
            rules=(_INSIDE_THE_CODE,),
        ),
    ] = None
    pip: Annotated[
        tuple[str, ...],
        field(
            "Lines of a requirements file: packages (PEP 508), and where they come from (`--index-url` and the like, without "
            "credentials).",
            max_length=1024,
            schema={"items": {"type": "string", "minLength": 1, "maxLength": 8192}},
        ),
    ] = ()
    pip_file: Annotated[
        str | None,
        field(
            "A requirements file in the job's code, instead of `pip`.",
            min_length=1,
            max_length=1024,
            rules=(_INSIDE_THE_CODE,),
        ),
    ] = None
    context: Annotated[
        str | None,
        field(
            "Folder in the job's code that COPY takes files from. Its content is part of the key where a step reads it.",
            min_length=1,
            max_length=1024,
            rules=(_INSIDE_THE_CODE,),
        ),
    ] = None
    build: Annotated[Build | None, field("How the image is made.")] = None
    platforms: Annotated[
        tuple[Platform, ...],
        field("Platforms to have an image for; missing: those of the pools here.", max_length=8, list_is_set=True),
    ] = ()
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...],
        field("Secrets with which the image is looked up and pulled.", max_length=16, list_map_key="name"),
    ] = ()
    secrets: Annotated[
        tuple[BuildSecret, ...],
        field("What docker steps may read as `RUN --mount=type=secret,id=...`.", max_length=16, list_map_key="id"),
    ] = ()
    base_policy: Annotated[
        Literal["Once", "Always"],
        field(
            "When the tag of `image` is asked for its digest: Once for each generation of this spec, or Always, so that a "
            "moved tag makes a new image for jobs that start later."
        ),
    ] = "Once"
    refresh: Annotated[
        str,
        field(
            "Any text, such as a date. Another text has the packages chosen anew for the same spec; images that exist stay.",
            max_length=256,
        ),
    ] = ""
    cache_epoch: Annotated[
        int,
        field(
            "A number that is part of the key: another one makes another image of the same spec.", ge=0, le=2147483647
        ),
    ] = 0


class ResolvedImage(Spec):
    """What the environment is on one platform."""

    platform: Annotated[str, field("`os/architecture`.", max_length=64)]
    spec_key: Annotated[
        str, field("Name of the definition with the base's digest on this platform.", max_length=64)
    ] = ""
    lock_key: Annotated[str, field("Name of the exact set of packages.", max_length=64)] = ""
    base: Annotated[str, field("The base image on this platform, pinned by its digest.", max_length=1152)] = ""
    digest: Annotated[str, field("Digest of the platform's manifest.", max_length=71)] = ""
    image: Annotated[str, field("The image pinned by its digest.", max_length=1152)] = ""
    source: Annotated[str, field("Where it came from: `given`, `workspace`, `global` or `built`.", max_length=32)] = ""
    size_bytes: Annotated[int, field("Bytes of its compressed layers.", ge=0)] = 0
    build_seconds: Annotated[int, field("How long it took to build, in seconds.", ge=0)] = 0
    signed_by: Annotated[
        str,
        field(
            "The key that signed it when it was built: SHA-256 of the public key's DER. `cosign verify` tells whether it did.",
            max_length=71,
        ),
    ] = ""


class BuildStatus(Spec):
    """The build that runs, or ran last."""

    name: Annotated[str, field("Name of its batch/v1 Job.", max_length=63)] = ""
    started_at: Annotated[str, field("When it started (RFC 3339).", max_length=40)] = ""
    ended_at: Annotated[str, field("When it ended (RFC 3339).", max_length=40)] = ""
    tries: Annotated[int, field("Tries so far.", ge=0)] = 0


class EnvironmentStatus(Spec):
    """Which image the environment is, and how it came about."""

    observed_generation: Annotated[int, field("metadata.generation that this was computed from.")] = 0
    definition_key: Annotated[
        str,
        field("Name of the definition: the same on every platform, in every cluster and on a laptop.", max_length=64),
    ] = ""
    base: Annotated[str, field("The base image, its tag resolved to a digest.", max_length=1152)] = ""
    conditions: Annotated[tuple[Condition, ...], field("Facts for machines.", max_length=16, list_map_key="type")] = ()
    images: Annotated[
        tuple[ResolvedImage, ...], field("The image on each platform.", max_length=8, list_map_key="platform")
    ] = ()
    build_log: Annotated[str, field("Key of the build's log in storage.", max_length=1024)] = ""
    build: Annotated[BuildStatus | None, field("The build that runs, or ran last.")] = None
    last_used: Annotated[str, field("When a job last started with it (RFC 3339).", max_length=40)] = ""


@resource(
    "Environment",
    "environments",
    "senv",
    namespaced=True,
    columns=(
        ("Image", "string", ".spec.image"),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Key", "string", ".status.definitionKey"),
        ("Last-Used", "date", ".status.lastUsed"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ),
)
class Environment(Spec):
    """What a command runs in, named by its content."""

    metadata: ObjectMeta
    spec: EnvironmentSpec = EnvironmentSpec()
    status: EnvironmentStatus = EnvironmentStatus()
