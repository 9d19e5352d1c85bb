"""Where an environment's build leaves its traces below a workspace's storage URL."""

ENVIRONMENTS = "environments/"
BUILD_LOG = "build.log"
LOCK = "lock.json"
#: Folder of one object for each image that jobs used: its time is the last use.
USED = f"{ENVIRONMENTS}used/"


def build_log(spec_key: str) -> str:
    """The log of the newest build of a specKey."""
    return f"{ENVIRONMENTS}{spec_key}/{BUILD_LOG}"
