"""Carries plans out: the only place from which the cluster is changed.

Actions are done in their order and stop at the first that fails; then comes the status. Everything may be done twice.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.api.names import ANNOTATION_REFRESH, ANNOTATION_SPEC_KEY, API_VERSION, LABEL_BUILD
from stoker.controller.admission import answer
from stoker.controller.answers import Answers
from stoker.controller.gate import Gate, check
from stoker.controller.pools import Pools
from stoker.controller.progress import Progress
from stoker.controller.wire_status import same_status, status_body
from stoker.core.plan import Action, AddOwner, AnswerCheck, Ask, Create, Delete, Plan, Posted, Refused
from stoker.kube.client import KubeClient
from stoker.kube.errors import Conflict, NotFound, Rejected
from stoker.kube.events import Recorder
from stoker.kube.resources import RESOURCES
from stoker.kube.store import Key, Store

LOG = logging.getLogger(__name__)

#: A Create that the API server refused is tried again after so long, then doubling (seconds).
FIRST_TRY_AGAIN_SECONDS, LONGEST_TRY_AGAIN_SECONDS = 5.0, 60.0
#: A status in one of these phases tells only how far a job is on its way to its start.
ON_ITS_WAY = frozenset({"Pending", "Preparing", "Queued", "Starting", "Suspended"})
#: Statuses that the API server stored otherwise than we sent them.
MOST_ALTERED = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a plan. planned_anew: something was learned that the plan did not know; look again at once.
    look_again_at: when a refused Create is worth another try, or what came of an order is to be seen. status_written: whether the status was sent."""

    planned_anew: bool = False
    look_again_at: float | None = None
    status_written: bool = False


class Executor:
    def __init__(
        self,
        client: KubeClient,
        store: Store,
        answers: Answers,
        pools: Pools,
        recorder: Recorder,
        gate: Gate,
        wake: Callable[[Key], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._store = store
        self._answers = answers
        self._pools = pools
        self._recorder = recorder
        self._gate = gate
        self._clock = clock
        #: Refused creates: when to try next, and after how long then.
        self._refused: dict[Posted, tuple[float, float]] = {}
        self._progress = Progress(wake)
        #: Statuses by uid that were stored otherwise than sent: what was sent, what was stored.
        self._altered: OrderedDict[str, tuple[Any, Any]] = OrderedDict()

    async def do(self, key: Key, target: Any, plan: Plan[Any]) -> Outcome:
        """Do what a plan says for `target` (the object of `key`). Raises KubeError and PoolError at the first failure
        that nothing but time or a new plan mends."""
        look_again_at: float | None = None
        for action in plan.actions:
            if isinstance(action, Create):
                posted = _posted(action)
                again = self._refused.get(posted, (0.0, 0.0))[0]
                if again > self._clock():
                    look_again_at = min(again, look_again_at or again)
                    continue
                if not await self._create(action, posted, key, target):
                    return Outcome(planned_anew=True)
            elif (again_at := await self._act(action, key)) is not None:
                look_again_at = min(again_at, look_again_at or again_at)
        if plan.status is None or self._is_known(key, target, plan.status):
            return Outcome(look_again_at=look_again_at)
        if _only_progress(plan.status) and not self._progress.may(key, self._clock()):
            return Outcome(look_again_at=look_again_at)
        written = await self._write_status(key, target, plan.status)
        return Outcome(look_again_at=look_again_at, status_written=written)

    async def _act(self, action: Action, key: Key) -> float | None:
        """Do one action; when to look at what came of it, None where that is heard of."""
        match action:
            case Ask(question):
                self._answers.ask(question, key)
            case Delete():
                check(self._gate)
                await self._delete(action)
            case AddOwner():
                check(self._gate)
                await self._add_owner(action)
            case AnswerCheck():
                check(self._gate)
                await answer(self._client, self._store, action, self._clock())
            case Create():
                raise TypeError("Create is done by itself")
            case _:
                check(self._gate)
                return await self._pools.do(action)
        return None

    # -- children

    async def _create(self, create: Create, posted: Posted, key: Key, target: Any) -> bool:
        """POST an object; False when the API server refused it, with its words left in the answers, and when it would now
        take what it refused before."""
        check(self._gate)
        resource, trial = RESOURCES[posted.kind], create.trial
        try:
            made = await self._client.create(
                resource.path(posted.namespace), create.manifest, resource.shape, strict=True, trial=trial
            )
        except Conflict as conflict:
            if not conflict.name_taken:
                raise
            try:
                made = await self._client.get(resource.path(posted.namespace, posted.name), resource.shape)
            except NotFound:
                raise conflict from None  # it went meanwhile: plan anew
            trial = False  # it is there, whoever asked
            if not _ours(made, create.manifest):
                self._refuse(
                    posted, key, target, "NameTaken", f"{posted.kind} {posted.name} exists and is not this job's"
                )
                return False
        except (Rejected, NotFound) as error:  # NotFound: the namespace goes
            self._refuse(posted, key, target, "PodsRejected", error.message)
            return False
        former = self._refused.pop(posted, None)
        if former is not None:
            self._answers.note(posted, None)
        if trial:
            # Should the real one be refused all the same, its tries go on as far apart as they were.
            self._refused[posted] = (self._clock(), former[1] if former else FIRST_TRY_AGAIN_SECONDS)
            return False
        # What we wrote is known at once; the watch brings the same, later.
        self._store.put(posted.kind, made)
        return True

    def _refuse(self, posted: Posted, key: Key, target: Any, reason: str, message: str) -> None:
        delay = min(self._refused.get(posted, (0.0, FIRST_TRY_AGAIN_SECONDS))[1], LONGEST_TRY_AGAIN_SECONDS)
        again = self._clock() + delay
        self._refused[posted] = (again, delay * 2)
        fix = (
            "delete that object, or use another name for the job"
            if reason == "NameTaken"
            else "change the namespace's quota or policy that the message names, or ask anew for what it allows; it is tried "
            "again by itself"
        )
        LOG.warning("%s %s/%s refused: %s", posted.kind, posted.namespace, posted.name, message)
        self._answers.note(posted, Refused(reason, message, fix, again))
        self._recorder.warn(target.metadata, key.kind, API_VERSION, reason, message)

    async def _delete(self, delete: Delete) -> None:
        try:
            await self._client.delete(
                RESOURCES[delete.kind].path(delete.namespace, delete.name), uid=delete.uid or None
            )
        except (NotFound, Conflict):  # gone, or another one of that name: as good
            return

    async def _add_owner(self, action: AddOwner) -> None:
        resource, owner = RESOURCES[action.kind], RESOURCES[action.owner_kind]
        reference = {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": action.owner_name,
            "uid": action.owner_uid,
        }
        path = resource.path(action.namespace, action.name)
        try:
            new = await self._client.add_owner(path, action.uid, reference, resource.shape)
        except (NotFound, Conflict):  # gone, or another one of that name: there is nothing to keep
            return
        self._store.put(action.kind, new)

    # -- status

    def _is_known(self, key: Key, target: Any, status: Any) -> bool:
        """Whether the API server has this status already, or the object is not there any more."""
        current = self._store.get(key.kind, key.namespace, key.name)
        if current is None or current.metadata.uid != target.metadata.uid or same_status(current.status, status):
            return True
        sent, stored = self._altered.get(target.metadata.uid, (None, None))
        return bool(sent == status and same_status(current.status, stored))

    async def _write_status(self, key: Key, target: Any, status: Any) -> bool:
        """Apply the whole status; False when the object has gone meanwhile."""
        uid = target.metadata.uid
        check(self._gate)
        resource = RESOURCES[key.kind]
        path = resource.path(key.namespace, key.name)
        try:
            new = await self._client.apply_status(path, status_body(resource, target.metadata, status), resource.shape)
        except NotFound:
            return False
        self._store.put(key.kind, new)
        if not same_status(new.status, status):
            # Sending it again and again would not help. Most likely the CRDs are of another version than we are.
            LOG.warning("%s: the API server keeps another status than was sent; are the CRDs of this version?", key)
            self._altered[uid] = (status, new.status)
            if len(self._altered) > MOST_ALTERED:
                self._altered.popitem(last=False)
        return True

    def forget(self, key: Key, uid: str) -> None:
        """The object has gone."""
        self._altered.pop(uid, None)
        self._progress.forget(key)
        if key.kind == "TrainingJob":
            now = self._clock()
            self._refused = {
                posted: kept for posted, kept in self._refused.items() if kept[0] + LONGEST_TRY_AGAIN_SECONDS > now
            }


def _only_progress(status: Any) -> bool:
    """Whether a status tells nothing but that a job is not running yet, and nobody can do anything about it."""
    if getattr(status, "phase", None) not in ON_ITS_WAY:
        return False
    return not any(one.type == "Stalled" and one.status == "True" for one in status.conditions)


def _posted(create: Create) -> Posted:
    manifest: Mapping[str, Any] = create.manifest
    metadata = manifest["metadata"]
    return Posted(manifest["kind"], metadata["namespace"], metadata["name"])


def _ours(found: Any, manifest: Mapping[str, Any]) -> bool:
    """Whether an object that has the name has our controller too; a build, which has none, is told by its whole key."""
    if LABEL_BUILD in manifest["metadata"].get("labels", {}):
        told = manifest["metadata"]["annotations"]
        return all(
            found.metadata.annotations.get(name, "") == told.get(name, "")
            for name in (ANNOTATION_SPEC_KEY, ANNOTATION_REFRESH)
        )
    wanted = next(
        (one["uid"] for one in manifest["metadata"].get("ownerReferences", ()) if one.get("controller")), None
    )
    controller = found.metadata.controller
    return controller is not None and controller.uid == wanted
