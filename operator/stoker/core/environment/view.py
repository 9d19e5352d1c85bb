"""What the planner of an Environment sees."""

from dataclasses import dataclass, field

from stoker.api.environment import Environment
from stoker.core.plan import Answers


@dataclass(frozen=True, slots=True)
class EnvironmentView:
    """An Environment, the platforms that this namespace's pools need, and what the registry said."""

    environment: Environment
    platforms: tuple[str, ...] = ("linux/amd64",)
    pull_secrets: tuple[str, ...] = ()
    answers: Answers = field(default_factory=dict)
