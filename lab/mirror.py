"""A local copy of the objects of one kind, kept up to date by a watch."""

from __future__ import annotations

import http.client
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.api import Api, ApiError, Json

log = logging.getLogger(__name__)


@dataclass
class Mirror:
    """The objects as last seen, by name (`namespace/name` where there is one). `changed` is told about each event."""

    path: str
    selector: str
    changed: Callable[[], None]
    objects: dict[str, Json] = field(default_factory=dict)
    synced: bool = False

    def follow(self, api: Api) -> None:
        """Never returns; a broken stream is listed anew."""
        while True:
            try:
                self._once(api)
            except (OSError, ApiError, http.client.HTTPException, ValueError) as error:
                log.warning("watch of %s: %s", self.path, error)
                time.sleep(0.5)

    def _once(self, api: Api) -> None:
        listed: dict[str, Json] = {}
        # Until the list is complete the old objects stay in sight: what is not in it has gone.
        target = listed
        for event, found in api.watch(self.path, self.selector):
            if event == "SYNCED":
                self.objects, self.synced = listed, True
                target = self.objects
            elif event == "DELETED":
                target.pop(key_of(found), None)
            else:
                target[key_of(found)] = found
            if self.synced:
                self.changed()


def key_of(found: Json) -> str:
    metadata = found["metadata"]
    name = str(metadata["name"])
    return f"{metadata['namespace']}/{name}" if "namespace" in metadata else name
