"""A simulated cluster in virtual time: it does what plans say and lets jobs, pods, nodes and the store react.

It knows Kubernetes and the store, and nothing of how plans are made. Every write that the operator would make is noted.
"""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import BatchJob, Claim, Event, KubeCondition, Node, OwnerReference, Pod, Taint
from stoker.api.trainingjob import FINISHED, TrainingJob, TrainingJobStatus
from stoker.core import cluster as pools
from stoker.core import times, trainingjob
from stoker.core.cluster.view import ClusterView, Holding, ScaleView
from stoker.core.plan import (
    Action,
    AddOwner,
    AdoptNode,
    Answer,
    Ask,
    CloseRank,
    Create,
    Delete,
    Found,
    HoldCluster,
    ImageDigest,
    InlineSnapshot,
    InputFiles,
    KeepNode,
    LaunchMachines,
    MarkForDeletion,
    NameHolder,
    Question,
    Recorded,
    ReleaseCluster,
    ResultWritten,
    ScaleTo,
    Seals,
    SnapshotPresent,
    TaintLeaving,
    TerminateMachines,
)
from stoker.core.trainingjob import remains
from stoker.core.trainingjob.attempts import attempt_of, finished, planned_nodes
from stoker.core.trainingjob.view import JobView, Placement, Settings, WorkspaceView
from tests.support import build

ANSWER_SECONDS, POD_SECONDS, START_SECONDS, SAVE_SECONDS, FINISH_SECONDS = 0.05, 0.2, 1.0, 0.5, 0.5
BOOT_SECONDS, DELETE_SECONDS = 40.0, 8.0


@dataclass(frozen=True, slots=True)
class Script:
    """What the pods of a job do. codes: exit code of each rank (the last for all others). seconds: how long the command
    runs. sealing: complete | incomplete | never. boots: whether pods start at all; vanish: pods are gone after so many
    seconds, without a word. salvage: saved | failed | unmounted, what becomes of saving their claims."""

    codes: tuple[int, ...] = (0,)
    seconds: float = 10.0
    sealing: str = "complete"
    starts: bool = True
    vanish: float | None = None
    salvage: str = "saved"

    def code(self, rank: int) -> int:
        return self.codes[min(rank, len(self.codes) - 1)]


@dataclass
class World:
    """One pool, its nodes and jobs. writes: (what, name) of each write that the operator made, in order."""

    pool: ComputeCluster
    now: float = build.T0
    jobs: dict[str, TrainingJob] = field(default_factory=dict)
    scripts: dict[str, tuple[Script, ...]] = field(default_factory=dict)
    children: dict[str, BatchJob] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    salvages: dict[str, BatchJob] = field(default_factory=dict)
    salvage_pods: dict[str, Pod] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    replicas: int = 0
    answers: dict[Question, Answer] = field(default_factory=dict)
    refusals: dict[Question, Answer] = field(default_factory=dict)
    seals: dict[tuple[str, int], dict[int, Any]] = field(default_factory=dict)
    stored: dict[tuple[str, str], Any] = field(default_factory=dict)
    freed_at: Mapping[str, float] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    assigned: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    writes: list[tuple[str, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    removed: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    peak: int = 0
    asking: set[Question] = field(default_factory=set)
    wakes: list[float] = field(default_factory=list)
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: int = 0
    _booted: int = 0

    # -- Making it.

    def submit(self, job: TrainingJob, *scripts: Script) -> TrainingJob:
        """scripts: one for each attempt, the last for all further ones."""
        metadata = msgspec.structs.replace(job.metadata, creation_timestamp=times.rfc3339(self.now))
        made = msgspec.structs.replace(job, metadata=metadata)
        self.jobs[made.metadata.uid] = made
        self.scripts[made.metadata.uid] = scripts or (Script(),)
        return made

    def have_node(self, name: str) -> None:
        """A node that is there from the start, and wanted."""
        self.replicas += 1
        self.add_node(name)

    def add_node(self, name: str) -> None:
        self.nodes[name] = build.node(
            name, created=self.now - build.T0, since=self.now - build.T0, pool=self.pool.metadata.name
        )
        self.peak = max(self.peak, len(self.nodes))

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._later, (self.now + seconds, self._order, do))

    def cancel(self, uid: str) -> None:
        job = self.jobs[uid]
        spec = msgspec.structs.replace(job.spec, cancel=True)
        metadata = msgspec.structs.replace(job.metadata, generation=job.metadata.generation + 1)
        self.jobs[uid] = msgspec.structs.replace(job, spec=spec, metadata=metadata)

    def suspend(self, uid: str, suspended: bool) -> None:
        """Set spec.suspend of a job."""
        job = self.jobs[uid]
        spec = msgspec.structs.replace(job.spec, suspend=suspended)
        metadata = msgspec.structs.replace(job.metadata, generation=job.metadata.generation + 1)
        self.jobs[uid] = msgspec.structs.replace(job, spec=spec, metadata=metadata)

    def lose_node(self, name: str) -> None:
        """A node is powered off: it falls silent, and its pods never say anything again."""
        if name in self.nodes:
            self.lost.add(name)
            self.nodes[name] = _unready(self.nodes[name], self.now)

    def restart(self) -> None:
        """The operator is killed and started again: what it held in memory is gone."""
        self.answers.clear()
        self.asking.clear()
        self.placements.clear()
        self.assigned.clear()
        self.freed_at = {}

    def script(self, pod: Pod) -> Script:
        """What a pod does, by its job and attempt."""
        scripts = self.scripts[_job_of(pod)]
        return scripts[min(attempt_of(pod.metadata.labels), len(scripts)) - 1]

    def phase(self, uid: str) -> str:
        return self.jobs[uid].status.phase

    # -- Running it.

    def run(self, seconds: float = 3600.0, until: Callable[["World"], bool] = lambda world: False) -> "World":
        """Let time pass until nothing is left to happen, `until` holds, or so many seconds are over."""
        end = self.now + seconds
        while not until(self):
            self.settle()
            moments = [moment for moment in self.wakes if moment > self.now]
            moments += [self._later[0][0]] if self._later else []
            following = min(moments, default=None)
            if following is None or following > end:
                self.now = end if following is not None else self.now
                break
            self.now = max(self.now, following)
            while self._later and self._later[0][0] <= self.now:
                heapq.heappop(self._later)[2]()
        return self

    def settle(self, most: int = 60) -> None:
        """Plan until there is nothing to do at this moment."""
        self._drop_claims()
        for _ in range(most):
            self.wakes = []
            if not self._plan_once():
                return
        raise AssertionError(f"still busy after {most} rounds at {self.now - build.T0:.1f} s: {self.writes[-10:]}")

    def _plan_once(self) -> bool:
        busy = self._plan_pool()
        for uid in list(self.jobs):
            plan = trainingjob.plan(self.view(uid), self.now)
            self.wakes += [plan.wake_at] if plan.wake_at is not None else []
            busy |= self._do_all(plan.actions)
            if plan.status is not None:
                assert plan.status != self.jobs[uid].status, "an equal status is no write"
                self._write_status(uid, plan.status)
                busy = True
        return busy

    def view(self, uid: str) -> JobView:
        job = self.jobs[uid]
        return JobView(
            job=job,
            settings=Settings("agent:1", "http://stoker-server:8080"),
            workspace=WorkspaceView(build.STORAGE),
            cluster=self.pool,
            clusters=(self.pool.metadata.name,),
            placement=self.placements.get(uid),
            children=tuple(child for child in self.children.values() if _job_of(child) == uid),
            pods=tuple(pod for pod in self.pods.values() if _job_of(pod) == uid),
            nodes=self.nodes,
            events=self.events,
            answers=self.answers,
            claims=tuple(claim for claim in self.claims.values() if _job_of(claim) == uid),
            salvages=tuple(job for job in self.salvages.values() if _job_of(job) == uid),
            salvage_pods=tuple(pod for pod in self.salvage_pods.values() if _job_of(pod) == uid),
        )

    def cluster_view(self) -> ClusterView:
        bound = trainingjob.holdings(self.children.values(), self.pods.values()).get(self.pool.metadata.name, ())
        known = {(holding.uid, holding.attempt) for holding in bound}
        loose = [Holding(uid, n, nodes, False) for (uid, n), nodes in self.assigned.items() if (uid, n) not in known]
        demands = [trainingjob.demand(self.view(uid), self.now) for uid in self.jobs]
        running = {
            p.spec.node_name for p in self.pods.values() if not _over(p) and p.metadata.deletion_timestamp is None
        }
        return ClusterView(
            cluster=self.pool,
            nodes=self.nodes,
            demands=tuple(demand for demand in demands if demand is not None),
            holdings=(*bound, *loose),
            freed_at=self.freed_at,
            occupied=frozenset(running - {""}),
            scale=ScaleView(self.replicas) if self.pool.spec.provider.type == "Scale" else None,
        )

    def _plan_pool(self) -> bool:
        view = self.cluster_view()
        made = pools.plan(view, self.now)
        self.freed_at = made.freed_at
        self.assigned = dict(made.assignments)
        self.placements = {
            **{uid: Placement(reason=w.reason, message=w.message, fix=w.fix) for (uid, _), w in made.waits.items()},
            **{uid: Placement(granted=True, nodes=nodes) for (uid, _), nodes in made.assignments.items()},
        }
        self.wakes += [made.plan.wake_at] if made.plan.wake_at is not None else []
        busy = self._do_all(made.plan.actions)
        if made.plan.status is not None:
            self.pool = msgspec.structs.replace(self.pool, status=made.plan.status)
            busy = True
        return busy

    def _write_status(self, uid: str, status: TrainingJobStatus) -> None:
        before = self.jobs[uid].status
        assert before.phase not in FINISHED, f"{uid} had ended as {before.phase} and was written again"
        if status.phase in FINISHED:
            key = status.key or names.job_key(self.jobs[uid].metadata.name, uid)
            assert ("ResultWritten", key) in self.stored, "a terminal status before result.json"
        self.jobs[uid] = msgspec.structs.replace(self.jobs[uid], status=status)
        self.writes.append(("status", f"{self.jobs[uid].metadata.name}: {status.phase}"))

    # -- Doing actions. True: something changed.

    def _do_all(self, actions: tuple[Action, ...]) -> bool:
        changed = [self._do(action) for action in actions]
        return any(changed)

    def _do(self, action: Action) -> bool:
        match action:
            case Ask(question):
                return self._ask(question)
            case Create(manifest):
                return self._create(manifest)
            case Delete(kind, _, name, uid):
                return self._delete(kind, name, uid)
            case AddOwner():
                return self._add_owner(action)
            case ScaleTo(_, old, new):
                return self._scale(old, new)
            case MarkForDeletion(_, node, replicas):
                provider = self.pool.spec.provider.scale
                assert provider is not None
                return self._annotate(node, {provider.delete_annotation: str(replicas)})
            case TaintLeaving(_, node, since):
                taint = Taint(key=names.TAINT_LEAVING, value=str(since), effect="NoSchedule")
                return self._taint(node, (taint,))
            case KeepNode(_, node):
                self._annotate(node, {})
                return self._taint(node, ())
            case AdoptNode():
                return False
            case LaunchMachines() | TerminateMachines() | HoldCluster() | ReleaseCluster():
                raise AssertionError(f"a counted pool has no machines: {action}")

    def _ask(self, question: Question) -> bool:
        if question in self.asking:
            return False
        if isinstance(question, Recorded):
            self.stored.setdefault(("Recorded", question.key), msgspec.json.decode(question.record))
        self.asking.add(question)

        def answer() -> None:
            if question not in self.asking:
                return
            self.asking.discard(question)
            self.answers[question] = self.refusals.get(question) or self._answer(question)

        self.later(ANSWER_SECONDS, answer)
        return True

    def _answer(self, question: Question) -> Answer:
        match question:
            case SnapshotPresent():
                return Found(True)
            case InlineSnapshot():
                return Found(build.SNAPSHOT)
            case InputFiles():
                return Found((("data/a.csv", "a.csv", 7, "e1"),))
            case ImageDigest():
                return Found(build.PINNED)
            case Recorded(key=key):
                return Found(self.stored["Recorded", key])
            case ResultWritten(key=key, result=text):
                return Found(self.stored.setdefault(("ResultWritten", key), msgspec.json.decode(text)))
            case NameHolder(name=name, key=key):
                holder = self.stored.setdefault(("NameHolder", name), key)
                result = self.stored.get(("ResultWritten", holder))
                return Found({"key": holder} if holder == key else {"key": holder, "result": result})
            case Seals(key=key, attempt=attempt):
                return Found(dict(self.seals.get((key, attempt), {})))
            case CloseRank(key=key, attempt=attempt, rank=rank, reason=reason, message=message):
                closed = build.seal(
                    rank, None, attempt=attempt, complete=False, reason=reason, message=message, files=(),
                    at=self.now - build.T0,
                ) | {"sealedBy": "operator"}  # fmt: skip
                return Found(self.seals.setdefault((key, attempt), {}).setdefault(rank, closed))
        return None

    def _create(self, manifest: Mapping[str, Any]) -> bool:
        name = manifest["metadata"]["name"]
        self.writes.append((f"create {manifest['kind']}", name))
        if manifest["kind"] != "Job":
            return True
        if names.LABEL_SALVAGE in manifest["metadata"]["labels"]:
            return self._salvage(manifest)
        assert name not in self.made, f"{name} was made twice"
        owner = manifest["metadata"]["ownerReferences"][0]["uid"]
        key = names.job_key(self.jobs[owner].metadata.name, owner)
        assert ("Recorded", key) in self.stored, "a child before job.json"
        others = [child.metadata.name for child in self.children.values() if _job_of(child) == owner]
        assert all(finished(self.children[other]) for other in others), f"{name} beside an open one of {others}"
        saving = [job.metadata.name for job in self.salvages.values() if _job_of(job) == owner and self._may_save(job)]
        assert not saving, f"{name} beside {saving}, which may save its checkpoints"
        self.made.append(name)
        child = msgspec.convert(manifest, BatchJob)
        metadata = msgspec.structs.replace(
            child.metadata, uid=f"uid-{name}", creation_timestamp=times.rfc3339(self.now)
        )
        self.children[name] = msgspec.structs.replace(child, metadata=metadata)
        for rank in range(child.spec.completions):
            self.later(POD_SECONDS, lambda rank=rank: self._make_pod(owner, name, rank))  # type: ignore[misc]
        return True

    def _delete(self, kind: str, name: str, uid: str) -> bool:
        self.writes.append((f"delete {kind}", name))
        if kind == "PersistentVolumeClaim":
            return self._delete_claim(name)
        if name in self.salvages:
            self.salvage_pods.pop(f"{name}-0-x", None)
            return self.salvages.pop(name).metadata.uid == uid
        if kind != "Job":
            return False
        if name not in self.children or self.children[name].metadata.uid != uid:
            return False
        child = self.children.pop(name)
        for pod in list(self.pods.values()):
            if pod.metadata.name.startswith(f"{name}-"):
                self._stop_pod(pod, child)
        return True

    def _add_owner(self, action: AddOwner) -> bool:
        self.writes.append((f"own {action.kind}", action.name))
        claim = self.claims.get(action.name)
        if claim is None or claim.metadata.uid != action.uid:
            return False
        owner = OwnerReference(kind=action.owner_kind, name=action.owner_name, uid=action.owner_uid)
        owners = (*claim.metadata.owner_references, owner)
        metadata = msgspec.structs.replace(claim.metadata, owner_references=owners)
        self.claims[action.name] = msgspec.structs.replace(claim, metadata=metadata)
        return True

    def _salvage(self, manifest: Mapping[str, Any]) -> bool:
        """A salvage: it mounts the claim, saves and seals, or what the attempt's script says."""
        made = msgspec.convert(manifest, BatchJob)
        name = made.metadata.name
        assert name not in self.made, f"{name} was made twice"
        self.made.append(name)
        template = manifest["spec"]["template"]["spec"]
        claim = self.claims[template["volumes"][0]["persistentVolumeClaim"]["claimName"]]
        stamp = times.rfc3339(self.now)
        metadata = msgspec.structs.replace(made.metadata, uid=f"uid-{name}", creation_timestamp=stamp)
        job = self.salvages[name] = msgspec.structs.replace(made, metadata=metadata)
        self.salvage_pods[f"{name}-0-x"] = build.salvage_pod(job, unplaced="no node has the volume", on="")
        uid, attempt = _job_of(claim), attempt_of(claim.metadata.labels)
        script = self.scripts[uid][min(attempt, len(self.scripts[uid])) - 1]
        if script.salvage != "unmounted":
            self.later(START_SECONDS, lambda: self._mount(job))
            args, rank = template["containers"][0]["args"], int(template["containers"][0]["env"][2]["value"])
            self.later(
                START_SECONDS + SAVE_SECONDS, lambda: self._salvaged(job, claim, attempt, rank, args[2], script.salvage)
            )
        return True

    def _may_save(self, job: BatchJob) -> bool:
        """Whether a salvage goes on and its rank is not sealed: what it saves could still be restored."""
        attempt, _, rank = job.metadata.labels[names.LABEL_SALVAGE].partition("-")
        key = names.job_key(self.jobs[_job_of(job)].metadata.name, _job_of(job))
        return not finished(job) and int(rank) not in self.seals.get((key, int(attempt)), {})

    def _mount(self, job: BatchJob) -> None:
        if job.metadata.name in self.salvages:
            self.salvage_pods[f"{job.metadata.name}-0-x"] = build.salvage_pod(job, running=True)

    def _salvaged(self, job: BatchJob, claim: Claim, attempt: int, rank: int, reason: str, end: str) -> None:
        if job.metadata.name not in self.salvages:
            return
        assert claim.metadata.name in self.claims, "the claim went while it was being saved"
        if end == "saved":
            key = names.job_key(self.jobs[_job_of(job)].metadata.name, _job_of(job))
            told = build.exit_record(None, reason=reason, at=self.now - build.T0)
            seal = build.seal(rank, attempt=attempt, exit=told, at=self.now - build.T0)
            self.seals.setdefault((key, attempt), {}).setdefault(rank, seal)
        done = KubeCondition(type="Complete" if end == "saved" else "Failed", status="True")
        status = msgspec.structs.replace(job.status, conditions=(done,))
        self.salvages[job.metadata.name] = msgspec.structs.replace(job, status=status)
        message = "sealed" if end == "saved" else "the disk is broken"
        self.salvage_pods[f"{job.metadata.name}-0-x"] = build.salvage_pod(job, exit_message=message)

    def _delete_claim(self, name: str) -> bool:
        if (claim := self.claims.get(name)) is None or claim.metadata.deletion_timestamp is not None:
            return False
        metadata = msgspec.structs.replace(claim.metadata, deletion_timestamp=times.rfc3339(self.now))
        self.claims[name] = msgspec.structs.replace(claim, metadata=metadata)
        return True

    def _drop_claims(self) -> None:
        """A claim whose owners are all gone goes, and one that is deleted once no pod names it, be it an ended one."""
        salvages = {pod.metadata.labels[names.LABEL_SALVAGE] for pod in self.salvage_pods.values()}
        for name, claim in list(self.claims.items()):
            owners = {one.kind: one.name for one in claim.metadata.owner_references}
            brought_by = self.pods.get(owners.get("Pod", ""))
            attempt = attempt_of(claim.metadata.labels)
            used = brought_by is not None or f"{attempt}-{remains.rank_of(claim)}" in salvages
            if (claim.metadata.deletion_timestamp is not None and not used) or (
                brought_by is None and "TrainingJob" not in owners
            ):
                del self.claims[name]

    def _scale(self, old: int, new: int) -> bool:
        if self.replicas != old:
            return False
        self.replicas = new
        if new > old:
            for _ in range(new - old):
                self.later(BOOT_SECONDS, self._boot)
            return True
        provider = self.pool.spec.provider.scale
        assert provider is not None
        marked = [
            name
            for name, node in self.nodes.items()
            if provider.delete_annotation in node.metadata.annotations and name not in self.leaving
        ]
        assert len(marked) >= old - new, "replicas lowered without saying which nodes go"
        self.leaving |= set(marked[: old - new])
        for name in marked[: old - new]:
            self.later(DELETE_SECONDS, lambda name=name: self._remove(name))  # type: ignore[misc]
        return True

    # -- What the cluster does by itself.

    def _boot(self) -> None:
        if len(self.nodes) - len(self.leaving) < self.replicas:
            self._booted += 1
            self.add_node(f"n{self._booted:04d}")

    def _remove(self, name: str) -> None:
        running = {p.metadata.name for p in self.pods.values() if p.spec.node_name == name and not _over(p)}
        self.removed.append((name, frozenset(running)))
        self.nodes.pop(name, None)
        self.leaving.discard(name)

    def _make_pod(self, uid: str, child: str, rank: int) -> None:
        if child not in self.children:
            return
        given = planned_nodes(self.children[child])
        here = given[rank] if rank < len(given) else ""
        attempt = attempt_of(self.children[child].metadata.labels)
        made = build.pod(rank, self.jobs[uid], attempt=attempt, on=here, created=self.now - build.T0, phase="Pending")
        self.pods[made.metadata.name] = made
        block = self.jobs[uid].spec.command
        if block is not None and block.resources.scratch is not None and block.resources.scratch.storage_class_name:
            claim = build.claim(rank, self.jobs[uid], attempt=attempt, owned=False, pod=made.metadata.name)
            self.claims[claim.metadata.name] = claim
        script = self.script(made)
        if script.starts:
            self.later(START_SECONDS, lambda: self._start(uid, made.metadata.name, rank))
        if script.vanish is not None:
            self.later(script.vanish, lambda: self._vanish(made.metadata.name, child))

    def _start(self, uid: str, name: str, rank: int) -> None:
        pod = self.pods.get(name)
        if pod is None or pod.metadata.deletion_timestamp or self._silent(pod):
            return
        self.pods[name] = _redo(
            pod,
            build.pod(
                rank,
                self.jobs[uid],
                attempt=attempt_of(pod.metadata.labels),
                on=pod.spec.node_name,
                started=self.now - build.T0,
            ),
        )
        script = self.script(pod)
        self.later(script.seconds, lambda: self._seal(uid, name, rank, script.code(rank), None))

    def _seal(self, uid: str, name: str, rank: int, code: int, reason: str | None) -> None:
        pod = self.pods.get(name)
        if pod is None or (pod.metadata.deletion_timestamp and reason is None) or self._silent(pod) or _over(pod):
            return
        script, key = self.script(pod), names.job_key(self.jobs[uid].metadata.name, uid)
        record = build.exit_record(code, reason=reason, at=self.now - build.T0)
        complete = script.sealing == "complete"
        if script.sealing != "never":
            attempt = attempt_of(pod.metadata.labels)
            made = build.seal(
                rank, attempt=attempt, complete=complete, reason=None if complete else "OutputsNotSaved", exit=record,
                at=self.now + SAVE_SECONDS - build.T0,
            )  # fmt: skip
            self.seals.setdefault((key, attempt), {}).setdefault(rank, made)
        self.later(SAVE_SECONDS, lambda: self._end(uid, name, rank, code))

    def _end(self, uid: str, name: str, rank: int, code: int) -> None:
        pod = self.pods.get(name)
        if pod is None or self._silent(pod):
            return
        if pod.metadata.deletion_timestamp:
            del self.pods[name]
            return
        started = pod.status.container_statuses[0].state.running
        begun = times.seconds(started.started_at) if started else None
        ended = build.pod(
            rank, self.jobs[uid], attempt=attempt_of(pod.metadata.labels), on=pod.spec.node_name, exit_code=code, ended=self.now - build.T0,
            started=(begun or self.now) - build.T0,
        )  # fmt: skip
        self.pods[name] = _redo(pod, ended)
        self.later(FINISH_SECONDS, lambda: self._finish(name))

    def _finish(self, pod_name: str) -> None:
        """The Job controller: one failed pod fails the Job and stops the others; all succeeded completes it."""
        child = next((child for name, child in self.children.items() if pod_name.startswith(f"{name}-")), None)
        if child is None:
            return
        pods = [pod for pod in self.pods.values() if pod.metadata.name.startswith(f"{child.metadata.name}-")]
        if any(pod.status.phase == "Failed" for pod in pods):
            self._conclude(child, "Failed")
            for pod in pods:
                if not _over(pod):
                    self._stop_pod(pod, child)
        elif len(pods) == child.spec.completions and all(pod.status.phase == "Succeeded" for pod in pods):
            self._conclude(child, "Complete")

    def _conclude(self, child: BatchJob, kind: str) -> None:
        status = msgspec.structs.replace(child.status, conditions=(KubeCondition(type=kind, status="True"),))
        self.children[child.metadata.name] = msgspec.structs.replace(child, status=status)

    def _stop_pod(self, pod: Pod, child: BatchJob) -> None:
        if _over(pod):
            self.pods.pop(pod.metadata.name, None)
            return
        metadata = msgspec.structs.replace(pod.metadata, deletion_timestamp=times.rfc3339(self.now))
        self.pods[pod.metadata.name] = msgspec.structs.replace(pod, metadata=metadata)
        uid = child.metadata.labels[names.LABEL_JOB_UID]
        rank = int(pod.metadata.labels[names.LABEL_RANK])
        started = pod.status.container_statuses[0].state.running is not None
        if started:
            self.later(1.0, lambda: self._seal(uid, pod.metadata.name, rank, 143, "Stopped"))
        if not self._silent(pod):
            self.later(3.0, lambda: self._vanish(pod.metadata.name, child.metadata.name))

    def _vanish(self, name: str, child: str) -> None:
        gone = self.pods.pop(name, None)
        if gone is not None and not _over(gone) and child in self.children:
            self._conclude(self.children[child], "Failed")

    def _silent(self, pod: Pod) -> bool:
        node = self.nodes.get(pod.spec.node_name)
        return pod.spec.node_name != "" and (node is None or node.status.conditions[0].status != "True")

    def _annotate(self, name: str, annotations: Mapping[str, str]) -> bool:
        node = self.nodes.get(name)
        if node is None or node.metadata.annotations == dict(annotations):
            return False
        metadata = msgspec.structs.replace(node.metadata, annotations=dict(annotations))
        self.nodes[name] = msgspec.structs.replace(node, metadata=metadata)
        return True

    def _taint(self, name: str, taints: tuple[Taint, ...]) -> bool:
        node = self.nodes.get(name)
        if node is None:
            return False
        own = tuple(taint for taint in node.spec.taints if taint.key != names.TAINT_LEAVING)
        spec = msgspec.structs.replace(node.spec, taints=(*own, *taints))
        changed = spec != node.spec
        self.nodes[name] = msgspec.structs.replace(node, spec=spec)
        return changed


def _job_of(thing: BatchJob | Pod | Claim) -> str:
    return thing.metadata.labels.get(names.LABEL_JOB_UID, "")


def _over(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def _redo(old: Pod, new: Pod) -> Pod:
    """A new state of the same pod: identity and deletion stay."""
    return msgspec.structs.replace(new, metadata=old.metadata)


def _unready(node: Node, now: float) -> Node:
    silent = KubeCondition(
        type="Ready", status="Unknown", reason="NodeStatusUnknown", last_transition_time=times.rfc3339(now)
    )
    return msgspec.structs.replace(node, status=msgspec.structs.replace(node.status, conditions=(silent,)))
