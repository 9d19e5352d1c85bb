"""The operator process: kopf front door, reconcile loop, executor, metrics, probes."""
