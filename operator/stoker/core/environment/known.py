"""What an Environment's status keeps of what was found out: it is not asked again."""

from stoker.api.environment import Environment, ResolvedImage
from stoker.api.names import ANNOTATION_AGAIN
from stoker.core import times


def known_image(environment: Environment, platform: str) -> ResolvedImage | None:
    """What the status says of a platform, if it is of the spec as it is now."""
    if environment.status.observed_generation != environment.metadata.generation:
        return None
    return next((one for one in environment.status.images if one.platform == platform), None)


def forgotten_before(environment: Environment) -> float:
    """Failures of builds that began before this moment count for nothing (seconds since the epoch)."""
    return times.seconds(environment.metadata.annotations.get(ANNOTATION_AGAIN)) or 0.0


def known_base(environment: Environment, platform: str) -> str:
    """The base on a platform, pinned; empty where it is not known."""
    found = known_image(environment, platform)
    return found.base if found is not None else ""
