"""Stoker: the training lifecycle of a managed ML service, on Kubernetes and on a laptop."""

__version__ = "0.1.0"
