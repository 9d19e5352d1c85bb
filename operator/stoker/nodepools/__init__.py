"""Where a pool's nodes come from: one module per provider behind one small protocol."""
