"""What a node says of itself, as far as both jobs and pools go by it."""

from stoker.api import names
from stoker.api.kube import Node


def is_taken_back(node: Node) -> bool:
    """Whether a node carries the notice that its provider takes it back: put there by us, or by whoever heard it first,
    such as a node termination handler."""
    return any(taint.key == names.TAINT_PREEMPTED for taint in node.spec.taints)
