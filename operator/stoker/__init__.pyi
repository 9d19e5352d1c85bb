"""The SDK's names, for editors and type checkers: a stub, since nothing below may import what is above it."""

from stoker.errors import BadInput as BadInput
from stoker.errors import BadInputs as BadInputs
from stoker.errors import StokerError as StokerError
from stoker.sdk import AmlCompute as AmlCompute
from stoker.sdk import AsyncClient as AsyncClient
from stoker.sdk import BuildContext as BuildContext
from stoker.sdk import Client as Client
from stoker.sdk import Command as Command
from stoker.sdk import ComputeCluster as ComputeCluster
from stoker.sdk import Environment as Environment
from stoker.sdk import Input as Input
from stoker.sdk import Job as Job
from stoker.sdk import JobFailed as JobFailed
from stoker.sdk import MpiDistribution as MpiDistribution
from stoker.sdk import Output as Output
from stoker.sdk import PyTorchDistribution as PyTorchDistribution
from stoker.sdk import RayDistribution as RayDistribution
from stoker.sdk import ScriptRunConfig as ScriptRunConfig
from stoker.sdk import TensorFlowDistribution as TensorFlowDistribution
from stoker.sdk import command as command
from stoker.sdk import load_job as load_job

__version__: str
