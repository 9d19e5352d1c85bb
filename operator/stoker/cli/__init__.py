"""The command line: build a job, submit it, watch it."""
