"""Build a job, submit it, watch it: for Python."""
