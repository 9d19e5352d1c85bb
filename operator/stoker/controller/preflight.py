"""Before anything is watched: is this an API server that we can work with, and are our kinds there?"""

import re
from typing import Any

from stoker.api.kueue import GROUP_VERSION as KUEUE
from stoker.api.names import API_VERSION
from stoker.controller.sweep import OWN_KINDS
from stoker.kube.client import KubeClient
from stoker.kube.errors import NotFound

#: The oldest Kubernetes that we work with: native sidecars and CEL rules.
OLDEST = (1, 30)


class Unfit(Exception):
    """The cluster cannot be worked with; the message says what to install or upgrade."""


async def check_cluster(client: KubeClient, *, kueue: bool = False) -> None:
    """Raises Unfit, or KubeError when the API server cannot be asked. kueue: whether Kueue has to be there."""
    version: dict[str, Any] = await client.get("/version")
    found = (_digits(version.get("major", "")), _digits(version.get("minor", "")))
    if found < OLDEST:
        raise Unfit(
            f"Kubernetes {version.get('gitVersion', 'of an unknown version')} is too old: "
            f"Stoker needs {OLDEST[0]}.{OLDEST[1]} or later; upgrade the cluster"
        )
    try:
        listed: dict[str, Any] = await client.get(f"/apis/{API_VERSION}")
        plurals = {entry["name"] for entry in listed.get("resources", ())}
    except NotFound:
        plurals = set()
    missing = [f"{kind.plural}.{API_VERSION.partition('/')[0]}" for kind in OWN_KINDS if kind.plural not in plurals]
    if missing:
        raise Unfit(
            f"the CustomResourceDefinitions {', '.join(missing)} are missing: install the Helm chart charts/stoker with "
            "crds.install=true, or `kubectl apply -f crds/`"
        )
    if not kueue:
        return
    try:
        await client.get(f"/apis/{KUEUE}")
    except NotFound:
        raise Unfit(
            f"kueue.enabled is true, and {KUEUE} is not served: install Kueue 0.15 or later, or set the chart's value "
            "kueue.enabled to false"
        ) from None


def _digits(text: str) -> int:
    """The number that a part of a version begins with: some vendors write `30+`."""
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0
