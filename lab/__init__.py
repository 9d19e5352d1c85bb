"""A real Kubernetes on one machine, for tests and the demo. See README.md beside this file."""

from __future__ import annotations

from lab.host import LabError
from lab.lab import S3, Lab, down, up

__all__ = ["S3", "Lab", "LabError", "down", "up"]
