"""Which run a person means: a name, a unique prefix, a key, or `@last`; on this machine first, then in the cluster."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stoker.cli.options import Common
from stoker.errors import BadInput, StokerError
from stoker.sdk import settings
from stoker.sdk.draft import LOCAL

if TYPE_CHECKING:
    from stoker.local.kept import Kept
    from stoker.sdk.client import Cluster


@dataclass
class LocalRun:
    """A run that is kept in a store of this machine."""

    kept: "Kept"
    key: str

    @property
    def name(self) -> str:
        return self.key[:-9]


@dataclass
class ClusterRun:
    """A run of a cluster. job: its TrainingJob, None when that is gone and the stored record is left."""

    cluster: "Cluster"
    key: str
    job: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.key[:-9]


Run = LocalRun | ClusterRun


class NoSuchRun(BadInput):
    """Nothing has that name, here or in the cluster."""


def kept_url(common: Common, storage: str | None) -> str:
    """The storage URL of local runs: the flag, the project's setting, `./.stoker`."""
    chosen = storage or common.settings.storage
    if chosen is None:
        return settings.default_storage(common.here)
    return chosen if "://" in chosen else (common.here / chosen).resolve().as_uri()


def resolve(common: Common, reference: str, compute: str | None = None, storage: str | None = None) -> Run:
    """The run that a reference names. compute: `local` looks on this machine only, another name in the cluster only.
    Raises BadInput when nothing, or more than one, matches."""
    if reference == "@last":
        return _last(common, compute, storage)
    if reference.startswith("@"):
        raise BadInput("RUN", f"{reference} is not a reference", "use a name, a unique beginning of one, or @last")
    local: list[str] = []
    if compute in (None, LOCAL):
        from stoker.local.kept import Kept

        kept = Kept(kept_url(common, storage))
        local = _matching(kept.keys(), reference)
        if exact := _exact(local, reference, kept):
            return LocalRun(kept, exact)
    remote: list[str] = []
    records: list[dict[str, Any]] = []
    if compute != LOCAL and (cluster := _cluster(common, needed=not local, named=compute is not None)) is not None:
        job = cluster.find(reference) if _is_name(reference) else None
        if job is not None:
            from stoker.sdk.client import key_of

            return ClusterRun(cluster, key_of(job), job)
        records = cluster.server().jobs()
        remote = _matching([one["key"] for one in records], reference)
        if exact := _newest_exact(remote, records, reference):
            return ClusterRun(cluster, exact, None)
        remote = _with_objects(cluster, remote, reference)
    return _only(common, reference, local, remote, records, storage)


def _is_name(reference: str) -> bool:
    return (reference.replace("-", "").isalnum() and reference.islower()) or reference.isdigit()


def _matching(keys: Iterable[str], reference: str) -> list[str]:
    return [key for key in keys if key.startswith(reference)]


def _exact(keys: list[str], reference: str, kept: "Kept") -> str | None:
    if reference in keys:
        return reference
    named = [key for key in keys if key[:-9] == reference]
    if len(named) < 2:
        return named[0] if named else None
    return max(named, key=lambda key: (kept.job(key) or {"job": {"submittedAt": ""}})["job"]["submittedAt"])


def _newest_exact(keys: list[str], records: list[dict[str, Any]], reference: str) -> str | None:
    named = [one["key"] for one in records if one["key"] == reference or one["key"][:-9] == reference]
    return named[-1] if named and named[-1] in keys else None


def _with_objects(cluster: "Cluster", keys: list[str], reference: str) -> list[str]:
    """Keys of stored records and of TrainingJobs that have none yet."""
    from stoker.sdk.client import key_of

    return sorted({*keys, *(key_of(job) for job in cluster.list() if job["metadata"]["name"].startswith(reference))})


def _only(
    common: Common, reference: str, local: list[str], remote: list[str], records: list[dict[str, Any]],
    storage: str | None,
) -> Run:  # fmt: skip
    from stoker.local.kept import Kept

    names = sorted({key[:-9] for key in (*local, *remote)})
    if not names:
        raise NoSuchRun("RUN", f"no run {reference!r} here or in the cluster", "`stoker ls` lists them")
    if len(names) > 1 or (local and remote):
        shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
        raise BadInput(
            "RUN", f"{reference!r} is the beginning of several: {shown}", "write more of the name, or --compute local"
        )
    if local:
        kept = Kept(kept_url(common, storage))
        return LocalRun(kept, _exact(local, names[0], kept) or local[-1])
    cluster = common.cluster()
    job = cluster.find(names[0])
    if job is not None:
        from stoker.sdk.client import key_of

        # Its own key: records of former runs of this name may be there too.
        return ClusterRun(cluster, key_of(job), job)
    return ClusterRun(cluster, _newest_exact(remote, records, names[0]) or remote[-1], None)


def _last(common: Common, compute: str | None, storage: str | None) -> Run:
    noted = settings.last(common.here)
    if noted and (compute is None or (noted.get("compute") == LOCAL) == (compute == LOCAL)):
        if noted.get("compute") == LOCAL:
            from stoker.local.kept import Kept

            return LocalRun(Kept(storage or noted["storage"]), noted["key"])
        common.context = common.context or noted.get("context")
        common.namespace = common.namespace or noted.get("namespace")
        return resolve(common, noted["name"], "cluster")
    found = newest_first(common, compute, storage, needed=compute not in (None, LOCAL))
    if not found:
        raise BadInput("RUN", "@last: there is no run yet", "`stoker run` makes one")
    return found[0][0]


def newest_first(
    common: Common, compute: str | None, storage: str | None, *, needed: bool
) -> list[tuple[Run, dict[str, Any]]]:
    """Every run with its record {"key", "job", "result", "object"?}, the newest first. needed: whether a cluster that
    cannot be asked is an error (else a warning)."""
    found: list[tuple[Run, dict[str, Any]]] = []
    if compute in (None, LOCAL):
        from stoker.local.kept import Kept

        kept = Kept(kept_url(common, storage))
        found += [(LocalRun(kept, one["key"]), one) for one in kept.jobs(common.output.warn)]
    if compute != LOCAL and (cluster := _cluster(common, needed=needed, named=compute is not None)) is not None:
        try:
            found += _of_cluster(cluster)
        except StokerError as error:
            if needed:
                raise
            common.output.warn(f"the cluster's runs are not shown: {error}")
    if compute not in (None, LOCAL):
        found = [pair for pair in found if pair[1]["job"].get("compute") == compute]
    return sorted(found, key=lambda pair: (pair[1]["job"]["submittedAt"], pair[1]["key"]), reverse=True)


def _of_cluster(cluster: "Cluster") -> list[tuple[Run, dict[str, Any]]]:
    from stoker.sdk.client import key_of

    # Records first: a run that is made in between has an object without a record, and never a record without an object,
    # which would look like a run whose object was deleted.
    records = {one["key"]: one for one in cluster.server().jobs()}
    objects = {key_of(job): job for job in cluster.list()}
    for key, job in objects.items():
        # A run without a record yet: what its object says.
        records.setdefault(key, {"key": key, "job": _short(job, key), "result": None})
        records[key]["object"] = job
    return [(ClusterRun(cluster, key, objects.get(key)), one) for key, one in records.items()]


def _short(job: dict[str, Any], key: str) -> dict[str, Any]:
    meta, spec = job["metadata"], job["spec"]
    return {
        "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"], "key": key, "experiment": spec.get("experiment"),
        "displayName": spec.get("displayName"), "tags": spec.get("tags", {}), "submittedAt": meta["creationTimestamp"],
        "submittedBy": None, "compute": spec.get("compute", ""), "command": spec.get("command", {}).get("command", ""),
        "instanceCount": spec.get("command", {}).get("resources", {}).get("instanceCount", 1),
    }  # fmt: skip


def _cluster(common: Common, *, needed: bool, named: bool = False) -> "Cluster | None":
    """The cluster; None when there is no kubeconfig and nobody asked for one. named: a pool was named."""
    from stoker.sdk.kube import NoCluster, NoKubeconfig

    try:
        return common.cluster()
    except NoCluster as error:
        if common.context or common.namespace or named:
            raise
        if needed and common.settings.compute not in (None, LOCAL):
            raise BadInput("RUN", f"not on this machine, and the cluster cannot be asked ({error})") from error
        if not isinstance(error, NoKubeconfig):
            common.output.warn(f"the cluster is not asked: {error}")
        return None
