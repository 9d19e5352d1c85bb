"""Object store, snapshots, the layout of a run, and the signing of grants."""
