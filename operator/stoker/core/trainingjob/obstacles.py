"""What keeps a job from starting until a person mends it: asked of its spec, its workspace and its pool alone.

The first policy that answers decides; order: from what concerns everything to what concerns the command's text.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stoker.api import names
from stoker.core import command, podshape, podspec, units
from stoker.core.trainingjob.view import JobView


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a job does not run. fix: what a person can do, even if that is to wait; then for how long, where it is known.
    yours: only a person can mend it, time does not help."""

    reason: str
    message: str
    fix: str
    yours: bool = False


#: Providers whose nodes Stoker does not bring.
_NODES_OF_OTHERS = frozenset({"Static", "External", "ProvisioningRequest"})

Obstacle = Callable[[JobView], Wait | None]


def obstacle(view: JobView) -> Wait | None:
    """The first thing that only a person can mend, or None."""
    return next((wait for policy in OBSTACLES if (wait := policy(view))), None)


def no_storage(view: JobView) -> Wait | None:
    if view.workspace.problem is not None:
        reason, message = view.workspace.problem
        namespace = view.job.metadata.namespace
        fix = f"give spec.storage.url of Workspace/default in namespace {namespace} a place of its own, s3://bucket/prefix"
        return Wait(reason, message, fix, yours=True)
    if not view.workspace.storage_url:
        return Wait(
            "NoStorage",
            f"namespace {view.job.metadata.namespace} has no storage to keep the run in",
            "set spec.storage.url of Workspace/default in the namespace, or the chart's storage.url",
            yours=True,
        )
    return None


def no_command(view: JobView) -> Wait | None:
    if view.job.spec.command is not None:
        return None
    return Wait("InvalidSpec", "spec.command is missing", "say what to run in spec.command", yours=True)


def no_compute(view: JobView) -> Wait | None:
    if view.compute:
        return None
    return Wait(
        "NoCompute",
        f"spec.compute is not set and the workspace has no default; {_usable(view)}",
        "use a new name and set spec.compute, or set spec.defaults.compute of Workspace/default",
        yours=True,
    )


def no_pool_fits(view: JobView) -> Wait | None:
    if view.choice is None or view.choice.compute:
        return None
    return Wait(
        "NoPoolFits",
        f"compute: {names.SERVERLESS} found no pool for this job: {view.choice.why_none()}"[:2048],
        "submit again with less in command.resources, or with a ComputeCluster's name in compute; a pool that is added or "
        "changed is looked at at once",
        yours=True,
    )


def compute_not_found(view: JobView) -> Wait | None:
    if view.cluster is not None:
        return None
    name = view.compute
    if name in names.RESERVED_COMPUTE:
        what = f"spec.compute: `{name}` is a reserved word, not a ComputeCluster here; {_usable(view)}"
    else:
        what = f'spec.compute: no ComputeCluster named "{name}"; {_usable(view)}'
    fix = f"create ComputeCluster/{name}" + (", or submit again with one of these" if view.clusters else "")
    return Wait("ComputeNotFound", what, fix, yours=True)


def compute_not_allowed(view: JobView) -> Wait | None:
    if view.cluster is None:
        return None
    allowed, namespace = view.cluster.spec.allowed_namespaces.match_names, view.job.metadata.namespace
    if not allowed or namespace in allowed:
        return None
    name = view.cluster.metadata.name
    return Wait(
        "ComputeNotAllowed",
        f"spec.compute: namespace {namespace} may not use ComputeCluster/{name}; {_usable(view)}",
        f"ask for {namespace} in spec.allowedNamespaces.matchNames of ComputeCluster/{name}, or submit again elsewhere",
        yours=True,
    )


def instance_type_unknown(view: JobView) -> Wait | None:
    spec, cluster = view.job.spec.command, view.cluster
    if spec is None or cluster is None or podspec.instance_type(cluster, view.instance_type):
        return None
    known = ", ".join(kind.name for kind in cluster.spec.instance_types) or "none"
    return Wait(
        "InstanceTypeUnknown",
        f'resources.instanceType: ComputeCluster/{cluster.metadata.name} has no type "{spec.resources.instance_type}"; '
        f"it has: {known}",
        "submit again with one of these, or leave instanceType out",
        yours=True,
    )


def larger_than_a_node(view: JobView) -> Wait | None:
    """Only where nodes are brought as their type says: those that are there already may offer more than is written down."""
    spec, cluster = view.job.spec.command, view.cluster
    kind = podspec.instance_type(cluster, view.instance_type) if spec and cluster else None
    if spec is None or cluster is None or kind is None or cluster.spec.provider.type in _NODES_OF_OTHERS:
        return None
    offered, asked = kind.resources, spec.resources.requests
    over = [
        f"{name} {asked[name]} of {offered[name]}"
        for name in sorted(asked.keys() & offered.keys())
        if units.parse(asked[name]) > units.parse(offered[name])
    ]
    if not over:
        return None
    name = cluster.metadata.name
    return Wait(
        "RequestsLargerThanNode",
        f"resources.requests asks of each node for more than type {kind.name} of {name} offers: {', '.join(over)}",
        f"submit again with lower requests or another instanceType, or correct the type's resources in ComputeCluster/{name}",
        yours=True,
    )


def gang_larger_than_pool(view: JobView) -> Wait | None:
    spec, cluster = view.job.spec.command, view.cluster
    if spec is None or cluster is None or spec.resources.instance_count <= cluster.spec.max_instances:
        return None
    need, name = spec.resources.instance_count, cluster.metadata.name
    return Wait(
        "GangLargerThanPool",
        f"the job needs {need} nodes at once and {name} may have {cluster.spec.max_instances}",
        f"raise spec.maxInstances of ComputeCluster/{name} to {need}, or submit again with a lower resources.instanceCount",
        yours=True,
    )


def root_not_allowed(view: JobView) -> Wait | None:
    spec, cluster = view.job.spec.command, view.cluster
    if spec is None or cluster is None or cluster.spec.allow_root_pods:
        return None
    if not podshape.wants_root(podshape.merged(spec.pod, cluster.spec.pod_defaults)):
        return None
    name = cluster.metadata.name
    return Wait(
        "RootNotAllowed",
        f"spec.command.pod.securityContext asks for root and ComputeCluster/{name} does not allow it",
        f"set spec.allowRootPods of ComputeCluster/{name}, or leave runAsUser and runAsNonRoot out",
        yours=True,
    )


def environment_not_found(view: JobView) -> Wait | None:
    spec = view.job.spec.command
    if spec is None or spec.environment.spec is not None or view.environment is not None:
        return None
    known = ", ".join(view.environments) or "none"
    return Wait(
        "EnvironmentNotFound",
        f'spec.command.environment.name: no Environment named "{spec.environment.name}" in namespace '
        f"{view.job.metadata.namespace}; there are: {known}",
        f"create Environment/{spec.environment.name}, or submit again with one of these",
        yours=True,
    )


def environment_without_image(view: JobView) -> Wait | None:
    spec = view.job.spec.command
    environment = (spec.environment.spec or (view.environment.spec if view.environment else None)) if spec else None
    if environment is None or environment.image or view.workspace.defaults.image:
        return None
    if environment.build is not None and environment.build.dockerfile is not None:
        return None
    return Wait(
        "EnvironmentWithoutImage",
        "the environment names no image to run or to build on, and the workspace has no default",
        "set image in the environment, or spec.defaults.image of Workspace/default",
        yours=True,
    )


def command_names_the_undeclared(view: JobView) -> Wait | None:
    spec = view.job.spec
    if spec.command is None:
        return None
    found = command.problems(spec.command.command, spec.inputs, spec.outputs)
    if not found:
        return None
    return Wait(
        "InvalidCommand",
        "; ".join(f"{problem.field}: {problem.message}" for problem in found[:5]),
        f"{found[0].fix}; the command is immutable, so submit again under a new name",
        yours=True,
    )


#: Order matters: without storage nothing can be kept, without a pool nothing else can be judged.
OBSTACLES: tuple[Obstacle, ...] = (
    no_storage,
    no_command,
    no_compute,
    no_pool_fits,
    compute_not_found,
    compute_not_allowed,
    instance_type_unknown,
    larger_than_a_node,
    gang_larger_than_pool,
    root_not_allowed,
    environment_not_found,
    environment_without_image,
    command_names_the_undeclared,
)


def _usable(view: JobView) -> str:
    return f"this namespace may use: {', '.join(view.clusters)}" if view.clusters else "this namespace may use none"
