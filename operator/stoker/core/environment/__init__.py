"""One Environment: what its image means on each platform."""

from stoker.core.environment.plan import plan

__all__ = ["plan"]
