"""Who brings and removes nodes: one module per provider, behind one small protocol."""
