"""Names of Azure's SDK that have nothing behind them here, and what to do instead."""

from collections.abc import Callable
from typing import Any

_PIPELINES = (
    "pipelines are not supported yet; start the jobs one after another, each with the outputs of the one before"
)
_SWEEPS = "sweeps are not supported yet; start one job for each value: job(lr=0.1), job(lr=0.2)"
_AUTOML = "AutoML is not supported yet"
_SCHEDULES = "schedules are not supported yet; a CronJob or your CI may run `stoker job create -f FILE`"
_ASSETS = "assets are not made by the SDK yet; name the data by its path, local or s3://"
_SERVING = "Stoker trains models and does not serve them"
_SERVICES = "interactive services are not supported yet"
_WORKSPACES = "a workspace is a namespace of the cluster: kubectl create namespace, and the Workspace manifest"
_NODES = "a pool's nodes are of its provider: use AmlCompute, or stoker.ComputeCluster"

_WHY: dict[str, tuple[str, ...]] = {
    _PIPELINES: (
        "dsl", "pipeline", "parallel", "spark", "Pipeline", "PipelineJob", "PipelineComponent", "Parallel", "Spark", "load_component",
        "CommandComponent", "ParallelComponent", "Component", "parallel_run_function", "RunFunction", "components", "SparkJob",
    ),
    _SWEEPS: (
        "sweep", "Choice", "Uniform", "QUniform", "LogUniform", "QLogUniform", "Normal", "QNormal", "LogNormal", "QLogNormal",
        "Randint", "BanditPolicy", "MedianStoppingPolicy", "TruncationSelectionPolicy", "SweepJob", "Sweep", "Objective",
        "SweepJobLimits", "SamplingAlgorithm", "RandomSamplingAlgorithm", "GridSamplingAlgorithm", "BayesianSamplingAlgorithm",
    ),
    _AUTOML: ("automl", "classification", "regression", "forecasting", "AutoMLJob", "finetuning"),
    _SCHEDULES: ("schedules", "JobSchedule", "CronTrigger", "RecurrenceTrigger", "RecurrencePattern", "Schedule"),
    _ASSETS: (
        "data", "models", "datastores", "Data", "Model", "Datastore", "AzureBlobDatastore", "AzureDataLakeGen2Datastore",
        "AzureFileDatastore", "load_data", "load_model", "load_datastore", "ModelPackage", "FeatureStore", "feature_stores",
    ),
    _SERVING: (
        "ManagedOnlineEndpoint", "ManagedOnlineDeployment", "KubernetesOnlineEndpoint", "KubernetesOnlineDeployment",
        "BatchEndpoint", "BatchDeployment", "ModelBatchDeployment", "PipelineComponentBatchDeployment", "CodeConfiguration",
        "online_endpoints", "online_deployments", "batch_endpoints", "batch_deployments", "serverless_endpoints",
    ),
    _SERVICES: (
        "SshJobService", "JupyterLabJobService", "VsCodeJobService", "TensorBoardJobService", "JobService",
    ),
    _WORKSPACES: ("Workspace", "workspaces", "Hub", "Project", "Registry", "registries", "WorkspaceConnection", "connections"),
    _NODES: ("ComputeInstance", "VirtualMachineCompute", "KubernetesCompute", "SynapseSparkCompute", "load_compute"),
}  # fmt: skip
_OF_NAME = {name: why for why, names in _WHY.items() for name in names}


def told(module: str, name: str) -> str:
    """What to say of a name that is not here."""
    why = _OF_NAME.get(name, "Stoker has nothing of that name; docs/how-to/python-sdk.md lists what there is")
    return f"{module} has no {name}: {why}"


def names_of(module: str) -> Callable[[str], Any]:
    """`__getattr__` of a module: an import of a name that is not there says why."""

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        # An AttributeError's text would be lost: `from X import Y` puts its own in the place of it.
        raise ImportError(told(module, name), name=module)

    return missing
