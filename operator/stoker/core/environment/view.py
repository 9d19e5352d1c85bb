"""What the planner of an Environment sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.api.environment import Environment
from stoker.core.environment.builds import Build
from stoker.core.environment.means import Means
from stoker.core.plan import Answers


@dataclass(frozen=True, slots=True)
class EnvironmentView:
    """An Environment, the platforms that this namespace's pools need, what registries said, and the namespace's builds by
    label. default_image: of environments that name none. used_at: when a job last started with it, as far as jobs that
    are there tell (seconds since the epoch)."""

    environment: Environment
    platforms: tuple[str, ...] = ("linux/amd64",)
    pull_secrets: tuple[str, ...] = ()
    answers: Answers = field(default_factory=dict)
    default_image: str | None = None
    means: Means = field(default_factory=Means)
    builds: Mapping[str, Build] = field(default_factory=dict)
    used_at: float | None = None
