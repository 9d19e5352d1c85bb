"""`azure.ai.ml.dsl`, which is not here."""

from stoker.azure.absent import told

raise ImportError(told("stoker.azure.ai.ml", "dsl"), name=__name__)
