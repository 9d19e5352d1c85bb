"""`azure.core`."""
