"""What we know of the cluster: one store, filled by watches and by the answers to our own writes, with its indexes.

Three rules keep it true:
- the newer resourceVersion wins, whichever way it came, so that our own writes are read at once and never undone by a
  late watch event;
- a uid that was seen to go never comes back (a slow answer to our own write would make a ghost);
- a relist removes what it does not have, unless that is newer than the list.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from stoker.api.kube import ObjectMeta
from stoker.api.names import LABEL_BUILD, LABEL_JOB_UID, assignees

#: How many gone uids are remembered: far more than can be on their way at a time.
REMEMBERED_GONE = 20_000


class Stored(Protocol):
    """Anything with metadata."""

    @property
    def metadata(self) -> ObjectMeta: ...


class Key(NamedTuple):
    """What an object is called: also what work queues hold."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


#: Told of every change: (kind, what was, what is). Both are the same kind; one of them may be None.
Listener = Callable[[str, Any, Any], None]


class Store:
    """Objects by kind and name, by uid, by owner's uid, by job's uid (our label), by node and by namespace."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], Any]] = {}
        self._by_uid: dict[str, Any] = {}
        #: (index, kind, value) -> objects by (namespace, name).
        self._index: dict[tuple[str, str, str], dict[tuple[str, str], Any]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` on every change from now on, after the change."""
        self._listeners.append(listener)

    # -- reading

    def get(self, kind: str, namespace: str, name: str) -> Any:
        """The object, or None."""
        return self._objects.get(kind, {}).get((namespace, name))

    def by_uid(self, uid: str) -> Any:
        """The object of any kind that has this uid, or None."""
        return self._by_uid.get(uid)

    def all(self, kind: str) -> Iterator[Any]:
        """Every object of a kind. Do not change the store while iterating."""
        return iter(self._objects.get(kind, {}).values())

    def count(self, kind: str) -> int:
        return len(self._objects.get(kind, {}))

    def owned_by(self, kind: str, uid: str) -> list[Any]:
        """Objects of a kind with an owner reference to this uid."""
        return self._select("owner", kind, uid)

    def of_job(self, kind: str, uid: str) -> list[Any]:
        """Objects of a kind that carry a TrainingJob's uid as our label."""
        return self._select("job", kind, uid)

    def of_build(self, kind: str, namespace: str, label: str) -> list[Any]:
        """Objects of a kind that belong to a build of an environment."""
        return self._select("build", kind, f"{namespace}/{label}")

    def builds_within(self, namespace: str) -> list[Any]:
        """The Jobs of builds in a namespace."""
        return self._select("builds", "Job", namespace)

    def on_node(self, node: str) -> list[Any]:
        """Pods that are bound to a node."""
        return self._select("node", "Pod", node)

    def assigned_to(self, uid: str) -> list[Any]:
        """Nodes that carry the label of an attempt of the TrainingJob of this uid."""
        return self._select("assigned", "Node", uid)

    def within(self, kind: str, namespace: str) -> list[Any]:
        """Objects of a kind in a namespace."""
        return self._select("namespace", kind, namespace)

    def about(self, uid: str) -> list[Any]:
        """Events about the object of this uid."""
        return self._select("about", "Event", uid)

    def _select(self, index: str, kind: str, value: str) -> list[Any]:
        return list(self._index.get((index, kind, value), {}).values())

    # -- writing

    def put(self, kind: str, new: Stored) -> bool:
        """Keep an object unless we know a newer one of its name, or that it has gone. True when it changed anything."""
        meta = new.metadata
        if meta.uid in self._gone:
            return False
        name = (meta.namespace, meta.name)
        objects = self._objects.setdefault(kind, {})
        old = objects.get(name)
        if old is not None:
            if version(new) <= version(old):
                return False
            if old.metadata.uid != meta.uid:
                self._bury(old)
            self._unindex(kind, name, old)
        objects[name] = new
        if meta.uid:
            self._by_uid[meta.uid] = new
        for entry in _entries(kind, new):
            self._index.setdefault(entry, {})[name] = new
        self._tell(kind, old, new)
        return True

    def remove(self, kind: str, gone: Stored) -> bool:
        """Forget an object that was seen to go; an object of the same name with another uid stays."""
        meta = gone.metadata
        name = (meta.namespace, meta.name)
        self._bury(gone)
        old = self._objects.get(kind, {}).get(name)
        if old is None or old.metadata.uid != meta.uid:
            return False
        del self._objects[kind][name]
        self._unindex(kind, name, old)
        self._tell(kind, old, None)
        return True

    def replace(
        self,
        kind: str,
        listed: Iterable[Stored],
        at: str,
        namespace: str = "",
        covers: Callable[[Stored], bool] = lambda item: True,
    ) -> None:
        """Take over a whole list of a kind (of one namespace, if given), read at resourceVersion `at`. covers: whether the
        list would have an object, where several lists share a kind; what it would not have stays."""
        names = set()
        for item in listed:
            names.add((item.metadata.namespace, item.metadata.name))
            self.put(kind, item)
        moment = _number(at)
        for name, item in list(self._objects.get(kind, {}).items()):
            if name in names or (namespace and name[0] != namespace) or version(item) > moment or not covers(item):
                continue
            self.remove(kind, item)

    def _bury(self, gone: Stored) -> None:
        if uid := gone.metadata.uid:
            self._gone[uid] = None
            if len(self._gone) > REMEMBERED_GONE:
                self._gone.popitem(last=False)

    def _unindex(self, kind: str, name: tuple[str, str], old: Stored) -> None:
        self._by_uid.pop(old.metadata.uid, None)
        for entry in _entries(kind, old):
            found = self._index.get(entry)
            if found is not None:
                found.pop(name, None)
                if not found:
                    del self._index[entry]

    def _tell(self, kind: str, old: Any, new: Any) -> None:
        for listener in self._listeners:
            listener(kind, old, new)


def version(item: Stored) -> int:
    """The resourceVersion as the number that it is in every API server over etcd; 0 if it is none."""
    return _number(item.metadata.resource_version)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _entries(kind: str, item: Any) -> Iterator[tuple[str, str, str]]:
    meta: ObjectMeta = item.metadata
    if meta.namespace:
        yield "namespace", kind, meta.namespace
    for owner in meta.owner_references:
        yield "owner", kind, owner.uid
    if job := meta.labels.get(LABEL_JOB_UID):
        yield "job", kind, job
    if build := meta.labels.get(LABEL_BUILD):
        yield "build", kind, f"{meta.namespace}/{build}"
        yield "builds", kind, meta.namespace
    if kind == "Pod" and item.spec.node_name:
        yield "node", kind, item.spec.node_name
    if kind == "Node":
        for uid in {uid for uid, _ in assignees(meta.labels)}:
            yield "assigned", kind, uid
    if kind == "Event" and item.involved_object.uid:
        yield "about", kind, item.involved_object.uid
