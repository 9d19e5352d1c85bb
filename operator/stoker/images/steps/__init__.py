"""Docker steps of an environment: the base with the steps on top is an image of its own, made once for all package lists."""

from stoker.images.steps.stage import apply

__all__ = ["apply"]
