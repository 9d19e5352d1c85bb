"""`azure.ai`."""
