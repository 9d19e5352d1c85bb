"""Where an environment's build leaves its traces below a workspace's storage URL."""

ENVIRONMENTS = "environments/"
BUILD_LOG = "build.log"
#: Below it each try's own log, once it has ended: named by when it began, so that names sort by time.
TRIES = "tries/"
LOCK = "lock.json"
#: Folder of one object for each image that jobs used: its time is the last use.
USED = f"{ENVIRONMENTS}used/"


def build_log(spec_key: str) -> str:
    """The log of the newest build of a specKey."""
    return f"{ENVIRONMENTS}{spec_key}/{BUILD_LOG}"
