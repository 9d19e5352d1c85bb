"""`azure.ai.ml.parallel`, which is not here."""

from stoker.azure.absent import told

raise ImportError(told("stoker.azure.ai.ml", "parallel"), name=__name__)
