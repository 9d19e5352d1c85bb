"""The client: jobs, environments and compute of one namespace of a cluster, and the runs of this machine."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stoker.api.names import API_VERSION, LABEL_ARCHIVED
from stoker.errors import BadInput, shown
from stoker.sdk.entities import compute as computes
from stoker.sdk.entities import environment as environments
from stoker.sdk.entities.compute import AmlCompute, ComputeCluster
from stoker.sdk.entities.environment import Environment
from stoker.sdk.entities.job import Command, JobFile
from stoker.sdk.entities.run import Job, JobFailed, of_told
from stoker.sdk.entities.runconfig import ScriptRunConfig
from stoker.sdk.listening import Prose
from stoker.sdk.session import Session

if TYPE_CHECKING:
    from stoker.sdk.client import Cluster
    from stoker.sdk.draft import Draft
    from stoker.sdk.prepare import Tree
    from stoker.sdk.runrecords import ClusterRun, Run
    from stoker.sdk.settings import Settings

T = TypeVar("T")
#: What `list_view_type` may be.
ACTIVE, ARCHIVED, ALL = "ActiveOnly", "ArchivedOnly", "All"


class Client:
    """One namespace of a cluster, and this machine.

    context, namespace: of the kubeconfig; missing: the project's setting, else the kubeconfig's own. Nothing is asked until
    it is needed, so that runs on this machine need no cluster. quiet: no prose on standard error but warnings. Used by one
    thread at a time. What goes wrong is a StokerError; of what was asked for a BadInput with field, value and fix.
    """

    def __init__(self, context: str | None = None, namespace: str | None = None, *, quiet: bool = False) -> None:
        self._asked = (context, namespace, quiet)
        self._prose = Prose(quiet)
        self._session = Session(self._prose, context, namespace, Path.cwd())
        self.jobs = JobOperations(self)
        self.environments = EnvironmentOperations(self)
        self.compute = ComputeOperations(self)

    def create_or_update(self, entity: "Command | ScriptRunConfig | JobFile | Job | Environment") -> Any:
        """Start a job, or create an Environment: what `jobs` and `environments` do."""
        if isinstance(entity, Environment):
            return self.environments.create_or_update(entity)
        return self.jobs.create_or_update(entity)

    def begin_create_or_update(self, entity: AmlCompute | ComputeCluster) -> "Done[ComputeCluster]":
        """Create a pool: what `compute` does."""
        return self.compute.begin_create_or_update(entity)

    def another(self) -> "Client":
        """A client of the same place with connections of its own: for another thread."""
        context, namespace, quiet = self._asked
        return Client(context, namespace, quiet=quiet)

    def __repr__(self) -> str:
        context, namespace, _ = self._asked
        return f"Client(context={context!r}, namespace={namespace!r})"

    def session(self) -> Session:
        """What the shared parts of CLI and SDK work with. Paths are relative to the folder that is current now."""
        if (here := Path.cwd()) != self._session.here:
            self._session.here = here
            self._session.use_settings(_settings_of(here))
        return self._session

    @property
    def prose(self) -> Prose:
        """Who hears of progress."""
        return self._prose


class Done(Generic[T]):
    """What has been done already, in the shape of something that may take long."""

    def __init__(self, value: T) -> None:
        self._value = value

    def result(self, timeout: float | None = None) -> T:
        """What came of it."""
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Nothing is left to wait for."""

    def done(self) -> bool:
        """True."""
        return True

    def status(self) -> str:
        """`Succeeded`."""
        return "Succeeded"


class JobOperations:
    """Runs: started, looked at, followed, ended, fetched. A run is named by its name or by the Job of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create_or_update(
        self, job: Command | ScriptRunConfig | JobFile | Job, *, description: str | None = None, compute: str | None = None,
        tags: Mapping[str, str] | None = None, experiment_name: str | None = None, skip_validation: bool = False,
    ) -> Job:  # fmt: skip
        """Start a run and return when it is accepted; on this machine when its command begins. For the Job of a run that is
        there: change its tags and display name. The keywords go over what the job says; skip_validation changes nothing."""
        from stoker.sdk import ask
        from stoker.sdk.draft import LOCAL
        from stoker.sdk.meaning import with_meaning

        if isinstance(job, Job):
            return self._update(job, description, tags)
        session = self._client.session()
        draft = _over(job.draft(session.here), description, compute, tags, experiment_name)
        for line in draft.warnings:
            session.listener.warn(line)
        where = ask.compute_of(draft, session.settings.compute)
        draft = with_meaning(session, draft, asks_cluster=where != LOCAL)
        return self._here(session, draft) if where == LOCAL else self._there(session, draft, where)

    def _here(self, session: Session, draft: "Draft") -> Job:
        """A run on this machine, in a process of its own."""
        from stoker.sdk import background, manifest
        from stoker.sdk.here import check_place, local_job, note_run, storage_url
        from stoker.sdk.meaning import definition_of_name
        from stoker.sdk.prepare import prepare
        from stoker.sdk.wanted import wanted_here

        draft = definition_of_name(session, draft)
        prepared = prepare(draft, with_inputs=False)
        url = storage_url(session.settings.storage, session.here)
        check_place(url, None)
        wanted = wanted_here(prepared.draft.environment)
        job = local_job(
            prepared, draft.name or manifest.generated_name(draft.base), url, wanted, container=None, fresh=False
        )
        note_run(session, job, session.settings.storage)
        background.start(job, session.listener)
        return self.get(job.name)

    def _there(self, session: Session, draft: "Draft", where: str) -> Job:
        from stoker.sdk import there
        from stoker.sdk.prose import tree_words

        cluster, listener = session.cluster(), session.listener
        prepared, document = there.planned(draft, where, cluster.namespace)
        compute, detail = there.look_up(cluster, prepared, where)
        listener.step("compute", compute, detail)
        begun = time.monotonic()

        def told(what: str, tree: "Tree", sent: bool) -> None:
            how = "sent" if sent else "unchanged, nothing sent"
            listener.step(what, tree_words(tree), how, time.monotonic() - begun)

        created = there.submit(cluster, prepared, document, told)
        listener.step("created", created["metadata"]["name"], f"namespace {cluster.namespace}")
        return _of_object(cluster, created)

    def _update(self, job: Job, description: str | None, tags: Mapping[str, str] | None) -> Job:
        found = self._cluster_run(job, "updated")
        spec: dict[str, Any] = {}
        if job.display_name is not None:
            spec["displayName"] = job.display_name
        if (words := description if description is not None else job.description) is not None:
            spec["description"] = words
        if given := {**job.tags, **(tags or {})}:
            spec["tags"] = given
        return _of_object(found.cluster, found.cluster.change(found.name, {"spec": spec}))

    def get(self, name: str | Job) -> Job:
        """A run as it stands now. Raises BadInput for a name that no run has."""
        return _job(self._find(name))

    def list(self, *, list_view_type: str = ACTIVE, max_results: int | None = None) -> list[Job]:
        """The runs of this machine and of the cluster, the newest first. list_view_type: ActiveOnly, ArchivedOnly, All."""
        if list_view_type not in (ACTIVE, ARCHIVED, ALL):
            raise BadInput(
                "list_view_type", f"{shown(list_view_type)} is not one", f"write {ACTIVE}, {ARCHIVED} or {ALL}"
            )
        from stoker.sdk import runrecords, runs

        session = self._client.session()
        asked = bool(session.context or session.namespace)
        found = []
        for run, record in runs.newest_first(session, None, None, needed=asked):
            archived = _is_archived(record.get("object"))
            if list_view_type == ALL or archived == (list_view_type == ARCHIVED):
                told = {**record["job"], **runrecords.line_of(run, record), "archived": archived}
                found.append(of_told(told))
        return found[:max_results]

    def stream(self, name: str | Job) -> None:
        """Print the run's log from its beginning, and go on until the run ends. Ctrl-C leaves the run running. Raises
        JobFailed for a run that fails."""
        from stoker.sdk import readlogs, runrecords
        from stoker.sdk.runrecords import LocalRun

        found = self._find(name)
        listener = self._client.prose
        with listener.logs() as descriptor:
            if isinstance(found, LocalRun):
                readlogs.follow_local(found, descriptor)
            elif readlogs.has_ended(found):
                record = runrecords.record_of(found)
                readlogs.write(found, readlogs.ranks(found, record, None, None), descriptor)
            else:
                from stoker.sdk.follow import Follower

                assert found.job is not None
                found.job = Follower(found.cluster, found.job, listener).run()
        job = _job(found)
        if job.status == "Failed":
            raise JobFailed(job)
        listener.step("done", f"{job.name} {job.status}")

    def cancel(self, name: str | Job) -> Job:
        """Ask that a run ends; what it saved stays. A run that has ended stays as it is."""
        from stoker.sdk import runrecords

        found = self._find(name)
        runrecords.cancel(found)
        return self.get(found.name)

    def begin_cancel(self, name: str | Job) -> Done[Job]:
        """As `cancel`."""
        return Done(self.cancel(name))

    def archive(self, name: str | Job) -> None:
        """Leave a run of the cluster out of lists; it loses nothing."""
        self._label(name, "true")

    def restore(self, name: str | Job) -> None:
        """Show an archived run in lists again."""
        self._label(name, None)

    def download(
        self, name: str | Job, *, download_path: str | os.PathLike[str] = ".", output_name: str | None = None,
        all: bool = False,
    ) -> None:  # fmt: skip
        """Copy what a run saved, each file checked against the sha256 of its seal: `artifacts/outputs` and `artifacts/logs`
        below download_path; with output_name that named output, below `named-outputs/NAME`; with all both."""
        from stoker.sdk.prose import human_bytes, plural
        from stoker.sdk.pulling import name_problem, pull_file, wanted
        from stoker.sdk.runrecords import record_of

        found = self._find(name)
        named = list(record_of(found)["job"].get("outputs") or {})
        if output_name is not None and output_name not in named:
            fix = f"this run has: {', '.join(named) or 'none'}"
            raise BadInput("output_name", f"{shown(output_name)}: {found.name} has no such named output", fix)
        chosen = [output_name] if output_name is not None else named if all else []
        folder, total, count = Path(download_path), 0, 0
        for path, one in wanted(found, with_logs=output_name is None):
            place = _place(path, one, chosen, artifacts=output_name is None)
            if place is None:
                continue
            if problem := name_problem(place):
                raise BadInput("download_path", f"{place!r} cannot be written here: {problem}", "download it on Linux")
            pull_file(found, place, one, folder, force=True, began=self._began)
            total, count = total + one["size"], count + 1
        self._client.prose.step("downloaded", f"{plural(count, 'file')}, {human_bytes(total)}", str(folder))

    def _began(self, path: str, size: int) -> None:
        from stoker.sdk.prose import human_bytes

        self._client.prose.note(f"{path}  {human_bytes(size)}")

    def _find(self, name: str | Job) -> "Run":
        from stoker.sdk import runs

        wanted_name = name.name if isinstance(name, Job) else name
        if not isinstance(wanted_name, str) or not wanted_name:
            raise BadInput("name", f"{shown(name)} is no run's name", "write the name of a Job, such as job.name")
        compute = name.compute if isinstance(name, Job) else None
        return runs.resolve(self._client.session(), wanted_name, compute)

    def _cluster_run(self, name: str | Job, what: str) -> "ClusterRun":
        from stoker.sdk.runrecords import LocalRun

        found = self._find(name)
        if isinstance(found, LocalRun):
            raise BadInput(
                "name", f"{found.name} ran on this machine and is not {what}", f"or remove it: stoker rm {found.name}"
            )
        if found.job is None:
            raise BadInput("name", f"TrainingJob/{found.name} is gone; its record is not {what}", "leave it")
        return found

    def _label(self, name: str | Job, value: str | None) -> None:
        found = self._cluster_run(name, "archived")
        found.cluster.change(found.name, {"metadata": {"labels": {LABEL_ARCHIVED: value}}})


class EnvironmentOperations:
    """Environments of the namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create_or_update(self, environment: Environment) -> Environment:
        """Create an Environment, or change the one of its name to this. A version has one content for ever: another one is
        refused."""
        from stoker.core.yaml12 import Document
        from stoker.sdk import manifest, objects
        from stoker.sdk.azureml import environment as reader

        session = self._client.session()
        made, warnings = reader.read(Document(environment.as_file(), "Environment()"), session.here, "")
        manifest.check("Environment", made, "Environment()")
        for line in warnings:
            session.listener.warn(line)
        found, said = objects.put(session.cluster(), made, versioned=environment.version is not None)
        session.listener.step("environment", str(found["metadata"]["name"]), said)
        return environments.of_object(found)

    def get(self, name: str, version: str | int | None = None, label: str | None = None) -> Environment:
        """An Environment. label: `latest`, the newest version. With neither the one of exactly this name, else the newest."""
        cluster = self._client.session().cluster()
        if label not in (None, "latest"):
            raise BadInput("label", f"{shown(label)} is not a label", "write latest, or a version")
        there_are = {str(one["metadata"]["name"]): one for one in cluster.environments()}
        exact = f"{name}-v{version}" if version is not None else name
        if exact in there_are and label is None:
            return environments.of_object(there_are[exact])
        if version is None and (
            of_name := [one for one in there_are.values() if environments.of_object(one).name == name]
        ):
            newest = max(of_name, key=lambda one: str(one["metadata"]["creationTimestamp"]))
            return environments.of_object(newest)
        cluster.environment(exact)  # raises with the names that there are
        raise BadInput("name", f"Environment {exact} was made just now", "ask again")

    def list(self, name: str | None = None, *, list_view_type: str = ACTIVE) -> list[Environment]:
        """The Environments, or the versions of one name."""
        found = self._client.session().cluster().environments()
        chosen = [one for one in found if list_view_type == ALL or _is_archived(one) == (list_view_type == ARCHIVED)]
        made = [environments.of_object(one) for one in chosen]
        return [one for one in made if name is None or one.name == name]

    def archive(self, name: str, version: str | int | None = None) -> None:
        """Leave an Environment out of lists; jobs may name it all the same."""
        self._label(name, version, "true")

    def restore(self, name: str, version: str | int | None = None) -> None:
        """Show an archived Environment in lists again."""
        self._label(name, version, None)

    def _label(self, name: str, version: str | int | None, value: str | None) -> None:
        from stoker.sdk import objects

        found = self.get(name, version)
        cluster = self._client.session().cluster()
        path = f"{objects.place_of(cluster, 'Environment')}/{found.reference}"
        cluster.kube.patch(path, {"metadata": {"labels": {LABEL_ARCHIVED: value}}})


class ComputeOperations:
    """Pools of nodes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def begin_create_or_update(self, compute: AmlCompute | ComputeCluster) -> Done[ComputeCluster]:
        """Create a ComputeCluster, or change the one of its name to this. It has no nodes until a job needs them."""
        from stoker.sdk import objects

        session = self._client.session()
        made, warnings = compute.manifest()
        for line in warnings:
            session.listener.warn(line)
        found, said = objects.put(session.cluster(), made, versioned=False)
        session.listener.step("compute", str(found["metadata"]["name"]), said)
        return Done(computes.of_object(found))

    def get(self, name: str) -> ComputeCluster:
        """A pool. Raises BadInput with the names there are."""
        found = self._client.session().cluster().compute(name)
        if found is None:
            raise BadInput(
                "name", f"you may not look at ComputeCluster {shown(name)}", "ask for ClusterRole stoker-viewer"
            )
        return computes.of_object(found)

    def list(self) -> list[ComputeCluster]:
        """The pools; none where one may not look."""
        return [computes.of_object(one) for one in self._client.session().cluster().computes() or ()]

    def begin_delete(self, name: str) -> Done[None]:
        """Delete a pool; its nodes go with it."""
        from stoker.sdk.kube import Refused

        cluster = self._client.session().cluster()
        self.get(name)
        try:
            cluster.kube.delete(f"/apis/{API_VERSION}/computeclusters/{name}", {"propagationPolicy": "Background"})
        except Refused as error:
            if error.status != 404:
                raise
        return Done(None)


def _settings_of(here: Path) -> "Settings":
    from stoker.sdk import settings

    return settings.read([here])


def _over(
    draft: "Draft", description: str | None, compute: str | None, tags: Mapping[str, str] | None, experiment: str | None
) -> "Draft":
    spec = dict(draft.spec)
    given = {"description": description, "experiment": experiment}
    spec |= {member: text for member, text in given.items() if text is not None}
    if tags:
        spec["tags"] = {**spec.get("tags", {}), **tags}
    return replace(draft, spec=spec, compute=compute if compute is not None else draft.compute)


def _job(found: "Run") -> Job:
    """What is known of a run, and why it waits."""
    from stoker.sdk import runrecords
    from stoker.sdk.runrecords import ClusterRun

    told = runrecords.details(found)
    if told["phase"] not in ("Completed", "Failed", "Canceled"):
        why = runrecords.reason_of(found)
        told |= {"reason": why["reason"], "message": why["message"], "fix": why["fix"]}
    return of_told({**told, "archived": isinstance(found, ClusterRun) and _is_archived(found.job)})


def _of_object(cluster: "Cluster", job: Mapping[str, Any]) -> Job:
    """What an object says, without a look at the record."""
    from stoker.sdk import runrecords
    from stoker.sdk.client import key_of
    from stoker.sdk.runrecords import ClusterRun

    key = key_of(job)
    short = runrecords.short_record(job, key)
    line = runrecords.line_of(ClusterRun(cluster, key, dict(job)), {"key": key, "job": short, "object": job})
    return of_told({**short, **line, "archived": _is_archived(job)})


def _is_archived(found: Mapping[str, Any] | None) -> bool:
    return ((found or {}).get("metadata", {}).get("labels") or {}).get(LABEL_ARCHIVED) == "true"


def _place(path: str, one: Mapping[str, Any], chosen: list[str], *, artifacts: bool) -> str | None:
    """Where a stored file goes, None for nowhere. path: in one folder for all ranks."""
    if one["stored"].startswith("logs/"):
        return f"artifacts/{path}" if artifacts else None
    # Another rank's file of the same name has `rank-<r>/` in front.
    front, name = ("", path)
    if one["rank"] > 0 and path.startswith(f"rank-{one['rank']}/"):
        front, _, name = path.partition("/")
    output, _, below = name.partition("/")
    for named in chosen:
        if output == named:
            return "/".join(part for part in ("named-outputs", named, front, below) if part)
    return f"artifacts/outputs/{path}" if artifacts else None
