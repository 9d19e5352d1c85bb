"""The default StorageClass `local`: a claim becomes a folder, on the node where its first pod was put."""

from __future__ import annotations

import http.client
import logging
import shutil
import threading

from lab.api import Api, ApiError, Json
from lab.mirror import Mirror
from lab.state import State

PROVISIONER = "lab.stoker.dev/local"
CLASS: Json = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
}
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_NODE = "volume.kubernetes.io/selected-node"

log = logging.getLogger(__name__)


class Volumes:
    """Makes and deletes the folders, one round after each change."""

    def __init__(self, state: State, api: Api) -> None:
        self.folder, self.api = state.folder / "volumes", api
        self.wake = threading.Event()
        self.claims = Mirror(_CLAIMS, "", self.wake.set)
        self.volumes = Mirror(_VOLUMES, "", self.wake.set)

    def run(self) -> None:
        try:
            self.api.request("POST", _CLASSES, CLASS)
        except ApiError as error:
            if error.status != 409:
                raise
        for mirror in (self.claims, self.volumes):
            threading.Thread(target=mirror.follow, args=(self.api,), daemon=True).start()
        while True:
            self.wake.wait()
            self.wake.clear()
            if not (self.claims.synced and self.volumes.synced):
                continue
            try:
                self._round()
            except (OSError, ApiError, http.client.HTTPException) as error:
                log.warning("%s", error)
                threading.Timer(1, self.wake.set).start()

    def _round(self) -> None:
        volumes = dict(self.volumes.objects)
        for claim in list(self.claims.objects.values()):
            spec, metadata = claim["spec"], claim["metadata"]
            node = metadata.get("annotations", {}).get(_NODE)
            name = f"local-{metadata['uid']}"
            if spec.get("storageClassName") == "local" and node and not spec.get("volumeName") and name not in volumes:
                self._make(name, claim, node)
        for name, volume in volumes.items():
            if volume["spec"].get("storageClassName") == "local" and volume["status"].get("phase") == "Released":
                shutil.rmtree(self.folder / name, ignore_errors=True)
                self.api.request("DELETE", f"{_VOLUMES}/{name}")

    def _make(self, name: str, claim: Json, node: str) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        # A hostPath volume ignores fsGroup, and pods run as all kinds of users.
        folder.chmod(0o777)
        spec, metadata = claim["spec"], claim["metadata"]
        hostname = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
            "spec": {
                "storageClassName": "local",
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "hostPath": {"path": str(folder)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}},
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        }
        try:
            self.api.request("POST", _VOLUMES, volume)
        except ApiError as error:
            if error.status != 409:
                raise
