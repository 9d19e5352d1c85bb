"""Version 1 of Azure ML's SDK, with `stoker.` in front of its import names."""
