"""The same lifecycle on this machine: no Docker, no cluster."""
