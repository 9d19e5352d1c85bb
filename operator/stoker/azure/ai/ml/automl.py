"""`azure.ai.ml.automl`, which is not here."""

from stoker.azure.absent import told

raise ImportError(told("stoker.azure.ai.ml", "automl"), name=__name__)
