"""One Environment: what its image means on each platform. Start with `plan.py`."""
