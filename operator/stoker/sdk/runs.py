"""Which run a person means: a name, a unique prefix, a key, or `@last`; on this machine first, then in the cluster."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from stoker.errors import BadInput, StokerError
from stoker.sdk import settings
from stoker.sdk.draft import LOCAL
from stoker.sdk.runrecords import ClusterRun, LocalRun, Run, short_record
from stoker.sdk.session import Session

if TYPE_CHECKING:
    from stoker.local.kept import Kept
    from stoker.sdk.client import Cluster


class NoSuchRun(BadInput):
    """Nothing has that name, here or in the cluster."""


def kept_url(session: Session, storage: str | None) -> str:
    """The storage URL of local runs: the flag, the project's setting, `./.stoker`."""
    chosen = storage or session.settings.storage
    if chosen is None:
        return settings.default_storage(session.here)
    return chosen if "://" in chosen else (session.here / chosen).resolve().as_uri()


def resolve(session: Session, reference: str, compute: str | None = None, storage: str | None = None) -> Run:
    """The run that a reference names. compute: `local` looks on this machine only, another name in the cluster only.
    Raises BadInput when nothing, or more than one, matches."""
    if reference == "@last":
        return _last(session, compute, storage)
    if reference.startswith("@"):
        raise BadInput("RUN", f"{reference} is not a reference", "use a name, a unique beginning of one, or @last")
    local: list[str] = []
    if compute in (None, LOCAL):
        from stoker.local.kept import Kept

        kept = Kept(kept_url(session, storage))
        local = _matching(kept.keys(), reference)
        if exact := _exact(local, reference, kept):
            return LocalRun(kept, exact)
    remote: list[str] = []
    records: list[dict[str, Any]] = []
    if compute != LOCAL and (cluster := _cluster(session, needed=not local, named=compute is not None)) is not None:
        job = cluster.find(reference) if _is_name(reference) else None
        if job is not None:
            from stoker.sdk.client import key_of

            return ClusterRun(cluster, key_of(job), job)
        records = cluster.server().jobs()
        remote = _matching([one["key"] for one in records], reference)
        if exact := _newest_exact(remote, records, reference):
            return ClusterRun(cluster, exact, None)
        remote = _with_objects(cluster, remote, reference)
    return _only(session, reference, local, remote, records, storage)


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
    session: Session, reference: str, local: list[str], remote: list[str], records: list[dict[str, Any]],
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
        kept = Kept(kept_url(session, storage))
        return LocalRun(kept, _exact(local, names[0], kept) or local[-1])
    cluster = session.cluster()
    job = cluster.find(names[0])
    if job is not None:
        from stoker.sdk.client import key_of

        # Its own key: records of former runs of this name may be there too.
        return ClusterRun(cluster, key_of(job), job)
    return ClusterRun(cluster, _newest_exact(remote, records, names[0]) or remote[-1], None)


def _last(session: Session, compute: str | None, storage: str | None) -> Run:
    noted = settings.last(session.here)
    if noted and (compute is None or (noted.get("compute") == LOCAL) == (compute == LOCAL)):
        if noted.get("compute") == LOCAL:
            from stoker.local.kept import Kept

            return LocalRun(Kept(storage or noted["storage"]), noted["key"])
        session.context = session.context or noted.get("context")
        session.namespace = session.namespace or noted.get("namespace")
        return resolve(session, noted["name"], "cluster")
    found = newest_first(session, compute, storage, needed=compute not in (None, LOCAL))
    if not found:
        raise BadInput("RUN", "@last: there is no run yet", "`stoker run` makes one")
    return found[0][0]


def newest_first(
    session: Session, compute: str | None, storage: str | None, *, needed: bool
) -> list[tuple[Run, dict[str, Any]]]:
    """Every run with its record {"key", "job", "result", "object"?}, the newest first. needed: whether a cluster that
    cannot be asked is an error (else a warning)."""
    found: list[tuple[Run, dict[str, Any]]] = []
    if compute in (None, LOCAL):
        from stoker.local.kept import Kept

        kept = Kept(kept_url(session, storage))
        found += [(LocalRun(kept, one["key"]), one) for one in kept.jobs(session.listener.warn)]
    if compute != LOCAL and (cluster := _cluster(session, needed=needed, named=compute is not None)) is not None:
        try:
            found += _of_cluster(cluster)
        except StokerError as error:
            if needed:
                raise
            session.listener.warn(f"the cluster's runs are not shown: {error}")
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
        records.setdefault(key, {"key": key, "job": short_record(job, key), "result": None})
        records[key]["object"] = job
    return [(ClusterRun(cluster, key, objects.get(key)), one) for key, one in records.items()]


def _cluster(session: Session, *, needed: bool, named: bool = False) -> "Cluster | None":
    """The cluster; None when there is no kubeconfig and nobody asked for one. named: a pool was named."""
    from stoker.sdk.kube import NoCluster, NoKubeconfig

    try:
        return session.cluster()
    except NoCluster as error:
        if session.context or session.namespace or named:
            raise
        if needed and session.settings.compute not in (None, LOCAL):
            raise BadInput("RUN", f"not on this machine, and the cluster cannot be asked ({error})") from error
        if not isinstance(error, NoKubeconfig):
            session.listener.warn(f"the cluster is not asked: {error}")
        return None
