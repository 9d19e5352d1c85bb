"""One ComputeCluster: which jobs get which nodes, how many nodes there are, which ones go.

Read `plan.py`, then `pool.py` (what a node is good for), `assign.py` (gangs in order), `resize.py` (growing and letting
go), `status.py`.
"""

from stoker.core.cluster.plan import plan

__all__ = ["plan"]
