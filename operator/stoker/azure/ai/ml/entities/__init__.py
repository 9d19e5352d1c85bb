"""`azure.ai.ml.entities`."""

from stoker.azure.absent import names_of
from stoker.sdk import (
    AmlCompute,
    BuildContext,
    Command,
    CommandJobLimits,
    Environment,
    Job,
    JobResourceConfiguration,
    QueueSettings,
)

#: The class of a command job has two names there.
CommandJob = Command
ResourceConfiguration = JobResourceConfiguration

__getattr__ = names_of(__name__)

__all__ = [
    "AmlCompute", "BuildContext", "Command", "CommandJob", "CommandJobLimits", "Environment", "Job",
    "JobResourceConfiguration", "QueueSettings", "ResourceConfiguration",
]  # fmt: skip
