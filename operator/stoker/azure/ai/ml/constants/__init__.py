"""`azure.ai.ml.constants`."""

from stoker.azure.absent import names_of
from stoker.sdk import mlclient


class AssetTypes:
    """What `type` of an Input and an Output may be."""

    URI_FILE = "uri_file"
    URI_FOLDER = "uri_folder"
    MLTABLE = "mltable"
    MLFLOW_MODEL = "mlflow_model"
    CUSTOM_MODEL = "custom_model"
    TRITON_MODEL = "triton_model"


class InputOutputModes:
    """What `mode` of an Input and an Output may be."""

    MOUNT = "mount"
    RO_MOUNT = "ro_mount"
    RW_MOUNT = "rw_mount"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    DIRECT = "direct"
    EVAL_MOUNT = "eval_mount"
    EVAL_DOWNLOAD = "eval_download"


class ListViewType:
    """What a list shows."""

    ACTIVE_ONLY = mlclient.ACTIVE
    ARCHIVED_ONLY = mlclient.ARCHIVED
    ALL = mlclient.ALL


__getattr__ = names_of(__name__)

__all__ = ["AssetTypes", "InputOutputModes", "ListViewType"]
