"""Applies the ComputeClusters that the chart's values list, from the folder of a mounted ConfigMap.

Helm cannot create objects of a kind whose CRD is in the same release; we can, and follow the folder as it changes. A pool
that is taken out of the values stays: removing machines is for people to decide.
"""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stoker.api.names import API_VERSION
from stoker.controller.gate import Gate
from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError
from stoker.kube.resources import COMPUTE_CLUSTERS

LOG = logging.getLogger(__name__)

#: A kubelet brings a changed ConfigMap within a minute or so: looking more often gains nothing.
EVERY_SECONDS = 10.0
FIELD_MANAGER = "stoker-config"


class ConfiguredPools:
    def __init__(self, client: KubeClient, folder: Path, gate: Gate) -> None:
        self._client = client
        self._folder = folder
        self._gate = gate
        self._applied: dict[str, str] = {}

    async def run(self) -> None:
        """Apply what is new or changed; for ever."""
        while True:
            await self._gate.wait()
            for name, text in sorted(self._read().items()):
                if self._applied.get(name) != text and await self._apply(name, text):
                    self._applied[name] = text
            await asyncio.sleep(EVERY_SECONDS)

    def _read(self) -> dict[str, str]:
        # A ConfigMap's folder has hidden entries that point to its versions.
        files = (path for pattern in ("*.yaml", "*.yml", "*.json") for path in self._folder.glob(pattern))
        try:
            return {path.name: path.read_text() for path in files if not path.name.startswith(".")}
        except OSError as error:
            LOG.warning("cannot read %s: %s", self._folder, error)
            return {}

    async def _apply(self, file: str, text: str) -> bool:
        """False when it is worth another try; a file that is wrong is told of once, until it changes."""
        try:
            manifests = list(_manifests(text))
        except (yaml.YAMLError, ValueError) as error:
            LOG.error("%s: %s", self._folder / file, error)
            return True
        whole = True
        for manifest in manifests:
            name = manifest["metadata"]["name"]
            try:
                await self._client.apply(COMPUTE_CLUSTERS.path(name=name), manifest, field_manager=FIELD_MANAGER)
                LOG.info("applied ComputeCluster %s", name)
            except KubeError as error:
                LOG.error("ComputeCluster %s of %s cannot be applied: %s", name, self._folder / file, error)
                whole = False
        return whole


def _manifests(text: str) -> Iterator[dict[str, Any]]:
    """The ComputeClusters of a file; raises ValueError for anything else in it."""
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        if not isinstance(document, dict) or document.get("kind") != "ComputeCluster":
            raise ValueError("only documents of kind ComputeCluster are applied from this folder")
        if not isinstance(document.get("metadata"), dict) or not document["metadata"].get("name"):
            raise ValueError("a ComputeCluster needs metadata.name")
        yield {"apiVersion": API_VERSION, **document}
