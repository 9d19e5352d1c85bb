"""The tracking server beside a command: MLflow's REST API on the pod's loopback, kept in files that are saved with the run."""
