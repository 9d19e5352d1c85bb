"""Stoker: the training lifecycle of a managed ML service, on Kubernetes and on a laptop."""

__version__ = "0.1.0"

#: As __init__.pyi has them, for editors and type checkers.
_ERRORS = ("BadInput", "BadInputs", "StokerError")
_OF_SDK = (
    "AmlCompute", "AsyncClient", "BuildContext", "Client", "Command", "ComputeCluster", "Environment", "Input", "Job",
    "JobFailed", "MpiDistribution", "Output", "PyTorchDistribution", "RayDistribution", "ScriptRunConfig",
    "TensorFlowDistribution", "command", "load_job",
)  # fmt: skip


def __getattr__(name):  # type: ignore[no-untyped-def]
    """The SDK's names, looked up when they are used: this module is also imported beside every training process, where there
    is the standard library alone."""
    if name in _OF_SDK or name in _ERRORS:
        from importlib import import_module

        return getattr(import_module("stoker.sdk" if name in _OF_SDK else "stoker.errors"), name)
    raise AttributeError("module 'stoker' has no attribute '" + name + "'")


def __dir__():  # type: ignore[no-untyped-def]
    return sorted([*globals(), *_OF_SDK, *_ERRORS])
