"""What `stoker env gc` has to know of a cluster before anything of a registry may go: whose it is, and who uses it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.api.names import API_VERSION, SYSTEM_NAMESPACE
from stoker.core.environment.needed import KINDS
from stoker.errors import BadInput, StokerError
from stoker.sdk.client import Cluster
from stoker.sdk.kube import Kube, Refused

Plain = Mapping[str, Any]
#: Objects of one page of a list.
_PAGE = "500"


@dataclass(frozen=True, slots=True)
class Ground:
    """url: the registry's `host/path`. insecure: it speaks http. stores: (namespace, URL of its store), the registry's own
    namespace first, then those that use it too. days: the grace that the Workspace says."""

    url: str
    insecure: bool
    stores: tuple[tuple[str, str], ...]
    days: int | None


def ground(cluster: Cluster, registry: str | None, storage: str | None) -> Ground:
    """Of the namespace. registry, storage: instead of what its Workspace, or the chart, says. Raises BadInput for what nobody
    says, and StokerError where it cannot be told who else uses the registry."""
    chart = _chart(cluster.kube)
    spaces = {one["metadata"]["namespace"]: one["spec"] for one in listed(cluster.kube, _WORKSPACES, "Workspaces")}
    own = spaces.get(cluster.namespace) or {}
    said = own.get("registry") or {}
    default = _below(chart.get("registryUrl"), cluster.namespace)
    url = (registry or said.get("url") or default or "").strip("/")
    if not url:
        fix = "name it: --registry HOST/PATH"
        raise BadInput("--registry", f"namespace {cluster.namespace} has no registry that could be cleaned", fix)
    store = storage or _storage(own, chart, cluster.namespace)
    if not store:
        fix = "give the storage URL of the namespace, as the chart has it: --storage s3://…/NAMESPACE"
        raise BadInput("--storage", f"where the runs of namespace {cluster.namespace} are stored is not known", fix)
    if any(one.get("url", "").strip("/") == url for one in json.loads(chart.get("globalRegistries") or "[]")):
        raise StokerError(
            f"nothing is removed: the chart has {url} among its globalRegistries, so every namespace may run its images; "
            "take it out of there first"
        )
    insecure = bool(said.get("insecure")) or url.partition("/")[0] in (chart.get("insecureRegistries") or "").split(",")
    stores = [(cluster.namespace, store)]
    for namespace in sharers(url, spaces, cluster.namespace, chart.get("registryUrl") or ""):
        if not (found := _storage(spaces.get(namespace) or {}, chart, namespace)):
            raise StokerError(
                f"nothing is removed: namespace {namespace} uses {url} too, and where its runs are stored is not known; "
                "set spec.storage.url of its Workspace"
            )
        stores.append((namespace, found))
    days = (own.get("retention") or {}).get("environmentDays")
    return Ground(url, insecure, tuple(stores), days)


def sharers(url: str, workspaces: Mapping[str, Plain], own: str, default: str) -> list[str]:
    """The other namespaces that push to a registry, or run what is in it. workspaces: namespace -> spec. default: below which
    those that name no registry have one under their own name; empty for none."""

    def uses(spec: Plain) -> bool:
        places = [spec.get("registry") or {}, *(spec.get("globalRegistries") or ())]
        return any(str(place.get("url", "")).strip("/") == url for place in places)

    found = {namespace for namespace, spec in workspaces.items() if uses(spec)}
    parent, _, name = url.rpartition("/")
    if default and parent == default.strip("/") and not (workspaces.get(name) or {}).get("registry"):
        found.add(name)
    return sorted(found - {own})


def objects(kube: Kube) -> dict[str, Sequence[Plain]]:
    """Every object that may name an image, in all namespaces. Raises StokerError where they cannot be read."""
    return {kind: listed(kube, path, f"{kind}s") for kind, path in KINDS.items()}


def listed(kube: Kube, path: str, what: str) -> list[Plain]:
    """All objects of a kind, page by page. what: the plural, for people."""
    found: list[Plain] = []
    token = ""
    while True:
        try:
            page = kube.get(path, limit=_PAGE, **({"continue": token} if token else {}))
        except StokerError as error:
            if isinstance(error, Refused) and error.status == 410 and token:
                found, token = [], ""  # the pages grew too old: all of it again
                continue
            raise StokerError(
                f"nothing is removed: {what} cannot be listed in all namespaces, so what they need is not known: {error}"
            ) from error
        found += page["items"]
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


_WORKSPACES = f"/apis/{API_VERSION}/workspaces"


def _chart(kube: Kube) -> Mapping[str, str]:
    """What the chart's ConfigMap tells everyone; empty where there is none."""
    try:
        found = kube.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/stoker-public")
    except Refused as error:
        if error.status == 404:
            return {}
        raise
    data: Mapping[str, str] = found.get("data") or {}
    return data


def _storage(spec: Plain, chart: Mapping[str, str], namespace: str) -> str:
    said: str = (spec.get("storage") or {}).get("url") or ""
    return said or _below(chart.get("storageUrl"), namespace)


def _below(url: str | None, namespace: str) -> str:
    return f"{url.rstrip('/')}/{namespace}" if url else ""
