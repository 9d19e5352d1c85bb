"""Workspace: a namespace's own settings; without one the chart's values hold."""

from typing import Annotated

import msgspec

from stoker.api.common import AMOUNT, Condition, LocalObjectReference, resource
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


_NO_SCHEME = Rule(
    "self.matches('^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$')",
    "this is not a registry's host and path",
    "write host/path without https:// and without a tag, such as registry.example.com/ml",
)
_PLAIN_URL = Rule(
    "self.matches('^https?://[^/@ ]+(/[^@ ]*)?$')",
    "this is not an http or https URL, or it has credentials in it",
    "write https://host/path; credentials belong into the Secret of mirrors.secretRef, in netrc's format",
)


class GlobalRegistry(Spec):
    """A registry that is only read: what it holds of Stoker's environments is trusted."""

    url: Annotated[
        str,
        field("`host/path`; images lie in `<url>/environments`.", min_length=1, max_length=255, rules=(_NO_SCHEME,)),
    ]
    secret_ref: Annotated[LocalObjectReference | None, field("Secret (dockerconfigjson) with which it is read.")] = None
    insecure: Annotated[bool, field("True: it speaks http, not https.")] = False


class Registry(Spec):
    """Where built images go."""

    url: Annotated[
        str,
        field(
            "`host/path`, as nodes reach it; images go to `<url>/environments`, layers of packages to `<url>/packages`.",
            min_length=1,
            max_length=255,
            rules=(_NO_SCHEME,),
        ),
    ]
    secret_ref: Annotated[
        LocalObjectReference | None, field("Secret (dockerconfigjson) with which images are pushed.")
    ] = None
    service_account_name: Annotated[
        str | None, field("ServiceAccount of builds, for a cloud identity that may push.", min_length=1, max_length=253)
    ] = None
    insecure: Annotated[bool, field("True: it speaks http, not https.")] = False


class Mirrors(Spec):
    """Where builds take things from instead of where their names say."""

    pypi: Annotated[
        str | None, field("Base URL of a simple index (PEP 503) instead of PyPI.", max_length=1024, rules=(_PLAIN_URL,))
    ] = None
    conda: Annotated[
        dict[str, Annotated[str, field("URL.", max_length=1024, rules=(_PLAIN_URL,))]],
        field("Name or URL of a conda channel, and the URL that is used instead.", max_length=32),
    ] = msgspec.field(default_factory=dict)
    images: Annotated[
        dict[str, Annotated[str, field("`host/path`.", max_length=255, rules=(_NO_SCHEME,))]],
        field("Host of a registry of base images, and the `host/path` that is used instead.", max_length=32),
    ] = msgspec.field(default_factory=dict)
    python: Annotated[
        str | None,
        field("URL of the list of managed Pythons, in the format of uv.", max_length=1024, rules=(_PLAIN_URL,)),
    ] = None
    secret_ref: Annotated[
        LocalObjectReference | None,
        field("Secret whose key `netrc` has the credentials of package indexes. They are in no key and no log."),
    ] = None


class BuildKit(Spec):
    """A BuildKit of your own, for docker steps that run something."""

    address: Annotated[
        str,
        field(
            "`tcp://host:port`.",
            max_length=255,
            rules=(
                Rule(
                    "self.matches('^tcp://[A-Za-z0-9.-]+:[0-9]{1,5}$')",
                    "address is not an address of BuildKit",
                    "write tcp://host:port",
                ),
            ),
        ),
    ]


class Signing(Spec):
    """The key that signs what is built here."""

    secret_ref: Annotated[
        LocalObjectReference,
        field(
            "Secret with the key `cosign.key` and, where that is encrypted, `cosign.password`: as `cosign generate-key-pair` "
            "makes them, or an EC key on P-256 in PEM. Only pods of builds have it."
        ),
    ]


class Defaults(Spec):
    """What a job gets that does not say."""

    compute: Annotated[
        str | None, field("ComputeCluster of jobs without spec.compute, or `serverless`.", max_length=63)
    ] = None
    image: Annotated[str | None, field("Image of jobs whose environment names none.", max_length=1024)] = None
    timeout_seconds: Annotated[int | None, field("limits.timeoutSeconds of jobs without one.", ge=1, le=31536000)] = (
        None
    )
    queue_name: Annotated[
        str | None, field("Kueue's LocalQueue of jobs without spec.queue.name.", min_length=1, max_length=63)
    ] = None


class Retention(Spec):
    """Which finished runs stay in storage once their TrainingJobs are gone. A run goes when neither of the two keeps it; with
    neither set no run goes. Snapshots that no run and no TrainingJob names go after 24 h."""

    keep_last: Annotated[
        int | None, field("Keep the newest so many finished runs of each experiment.", ge=0, le=1000000)
    ] = None
    keep_days: Annotated[int | None, field("Keep runs that ended within so many days.", ge=0, le=36500)] = None
    environment_days: Annotated[
        int | None,
        field(
            "Remove images of environments from the registry that no job, Environment or stored run names and that nobody used "
            "for so many days. Missing: the operator removes none, and `stoker env gc` keeps 30 days.",
            ge=0,
            le=36500,
        ),
    ] = None


class Quota(Spec):
    """What the namespace's jobs may have at a time and spend in a month, over all ComputeClusters. What exceeds it waits;
    no job is ended."""

    max_nodes: Annotated[int | None, field("Most nodes; missing: no limit.", ge=0, le=100000)] = None
    max_gpus: Annotated[
        int | None,
        field(
            "Most GPUs, counted by the types' resources whose name ends with `/gpu`, for whole nodes; missing: no limit.",
            ge=0,
            le=1000000,
        ),
    ] = msgspec.field(default=None, name="maxGPUs")
    cost_per_month: Annotated[
        str | None,
        field(
            "Most that the nodes of the namespace's jobs may cost in a calendar month (UTC), by pricePerHour of their types, as "
            "`1500.00`; once that is spent no further job gets nodes that have a price until the next month. Missing: no limit.",
            max_length=20,
            pattern=AMOUNT,
        ),
    ] = None


@rules(
    Rule(
        "!has(self.quota) || !has(self.defaults) || !has(self.defaults.queueName) || "
        "!(has(self.quota.maxNodes) || has(self.quota.maxGPUs))",
        "quota.maxNodes and quota.maxGPUs stand beside defaults.queueName, whose ClusterQueue owns the quota",
        "set the quota in the ClusterQueue, or remove defaults.queueName",
        at=".quota",
        value="self.defaults.queueName",
    )
)
class WorkspaceSpec(Spec):
    """Settings of one namespace."""

    storage: Annotated[
        Storage | None, field("Where runs are stored; missing: the chart's URL and the namespace's name.")
    ] = None
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...],
        field("Secrets with which images are looked up and pulled.", max_length=16, list_map_key="name"),
    ] = ()
    registry: Annotated[
        Registry | None,
        field("Where built images go; missing: the chart's registry and the namespace's name."),
    ] = None
    global_registries: Annotated[
        tuple[GlobalRegistry, ...],
        field("Registries that are looked into, in order, before anything is built.", max_length=8, list_map_key="url"),
    ] = ()
    mirrors: Annotated[Mirrors | None, field("Where builds take base images and packages from.")] = None
    buildkit: Annotated[BuildKit | None, field("A BuildKit of your own.")] = None
    signing: Annotated[
        Signing | None,
        field("With which key images that are built are signed, for `cosign verify`; missing: they are not signed."),
    ] = None
    defaults: Annotated[Defaults, field("What a job gets that does not say.")] = Defaults()
    retention: Annotated[
        Retention | None,
        field(
            "What the operator removes from storage and registry, every few hours; missing: nothing. See `stoker gc --dry-run` "
            "and `stoker env gc --dry-run`."
        ),
    ] = None
    environment_aliases: Annotated[
        dict[str, Annotated[str, field("Name of an Environment.", min_length=1, max_length=253)]],
        field(
            "What names of Azure ML's environments mean here: `name` or `registry/name`, with `:version` behind it or not, and "
            "an Environment of this namespace. `stoker run` and `stoker convert` look here first; for common curated names they "
            "have a table of their own.",
            max_length=64,
            rules=(
                Rule(
                    "self.all(name, size(name) <= 512 && !name.startsWith('azureml:') && !name.contains('@'))",
                    "an alias is a name, not a reference: it has no azureml: in front and no @latest behind it",
                    "write such as sklearn-1.5, sklearn-1.5:12 or azureml/sklearn-1.5",
                ),
            ),
        ),
    ] = msgspec.field(default_factory=dict)
    quota: Annotated[
        Quota | None,
        field(
            "What the namespace's jobs may have at a time and spend in a month; missing: no limit. Whoever may edit Workspaces "
            "may raise it."
        ),
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
            "Facts for machines: Ready, Reconciling, Stalled, StoragePreflight (which promises hold on the store), Retention "
            "and EnvironmentRetention (what was removed).",
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
