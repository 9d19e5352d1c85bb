"""`azure.ai.ml.sweep`, which is not here."""

from stoker.azure.absent import told

raise ImportError(told("stoker.azure.ai.ml", "sweep"), name=__name__)
