"""Following a run on a cluster: its phases from a watch, its log from the pods, and from the store what the pods no longer
give. Nothing here asks again and again: every wait is for an event."""

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stoker.api.names import FINISHED
from stoker.errors import StokerError
from stoker.runtime import waiting
from stoker.sdk import stopping
from stoker.sdk.client import Cluster, key_of
from stoker.sdk.kube import Kube, Refused
from stoker.sdk.wayin import Server

LABEL_UID, LABEL_ATTEMPT = "stoker.dev/job-uid", "stoker.dev/attempt"
LABEL_RANK = "batch.kubernetes.io/job-completion-index"
#: A stored log grows about once a second; this long (seconds) is waited between looks when a pod's own stream broke off.
_STORED_PAUSE = 1.0


class Listener(Protocol):
    """Who hears of a run's progress."""

    def step(self, label: str, what: str, detail: str = "", seconds: float | None = None) -> None: ...
    def note(self, line: str) -> None: ...
    def log_descriptor(self) -> int: ...


class LogSink:
    """Where log bytes go: whole lines of several ranks never mix. prefixed: whether ranks are told apart."""

    def __init__(self, descriptor: int, prefixed: bool) -> None:
        self._descriptor, self._prefixed = descriptor, prefixed
        self._lock = threading.Lock()
        self._open: dict[int, bytes] = {}

    def write(self, rank: int, content: bytes) -> None:
        """Print bytes of a rank's log."""
        if self._prefixed:
            held = self._open.pop(rank, b"") + content
            whole, newline, rest = held.rpartition(b"\n")
            self._open[rank] = rest
            content = b"".join(b"[r%d] %s\n" % (rank, line) for line in whole.split(b"\n")) if newline else b""
        self._out(content)

    def end(self, rank: int) -> None:
        """A rank's log is over: print what has no line end."""
        if rest := self._open.pop(rank, b""):
            self._out(b"[r%d] %s\n" % (rank, rest))

    def _out(self, content: bytes) -> None:
        with self._lock:
            view = memoryview(content)
            while view:
                view = view[os.write(self._descriptor, view) :]


class RankLog:
    """One rank of one attempt: how far its log is printed, and the thread that prints it."""

    def __init__(self, attempt: int, rank: int, sink: LogSink) -> None:
        self.attempt, self.rank, self.offset = attempt, rank, 0
        self._sink = sink
        self.thread: threading.Thread | None = None

    def take(self, content: bytes) -> None:
        self._sink.write(self.rank, content)
        self.offset += len(content)

    def from_pod(self, kube: Kube, namespace: str, pod: str) -> None:
        """Print what a pod's container writes until it ends or the stream breaks off."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            with kube.lines_of(path, container="main", follow="true") as response:
                if response.status >= 400:
                    return
                skip = self.offset
                while content := response.read1(1 << 16):
                    if skip >= len(content):
                        skip -= len(content)
                        continue
                    self.take(content[skip:])
                    skip = 0
        except (OSError, StokerError):
            return  # the stored log has the rest, from the offset reached

    def from_store(self, server: Server, key: str, *, to_the_end: bool, over: threading.Event | None = None) -> bool:
        """Print what the store has beyond the offset; whether that is all there will be. to_the_end: wait for more until
        the log is complete or `over` is set."""
        while True:
            content, complete = server.log(key, self.attempt, self.rank, self.offset)
            self.take(content)
            if complete or (not content and not to_the_end):
                return complete
            if not content and over is not None and over.wait(_STORED_PAUSE):
                to_the_end = False

    def end(self) -> None:
        self._sink.end(self.rank)


class Follower:
    """Follows one TrainingJob to its end. job: the object as it was created or found."""

    def __init__(self, cluster: Cluster, job: Mapping[str, Any], listener: Listener, *, phases: bool = True) -> None:
        self._cluster, self._listener, self._phases = cluster, listener, phases
        self._job = dict(job)
        self.key = key_of(job)
        ranks = int(job["spec"].get("command", {}).get("resources", {}).get("instanceCount", 1))
        self._sink = LogSink(listener.log_descriptor(), ranks > 1)
        self._logs: dict[tuple[int, int], RankLog] = {}
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._over = threading.Event()
        self._phase, self._since, self._waiting = "", time.monotonic(), ""
        self._image_told = False

    def run(self) -> dict[str, Any]:
        """Follow to the end; the object as it was last seen. KeyboardInterrupt passes through: the run goes on without us.
        Raises StokerError when the object is deleted without an end, or the API server stays away."""
        for watch in (self._watch_job, self._watch_pods):
            threading.Thread(target=self._guarded, args=(watch,), daemon=True).start()
        try:
            self._saw(self._job)
            with stopping.calling(self._stop):
                self._follow()
            self._finish_logs()
        finally:
            self._over.set()
        if self._phase not in FINISHED:
            name = self._job["metadata"]["name"]
            raise StokerError(
                f"TrainingJob/{name} was deleted before the run ended; what it saved stays: stoker logs {name}, stoker pull {name}"
            )
        return self._job

    def _follow(self) -> None:
        while self._phase not in FINISHED:
            what, found = waiting.next_of(self._events)
            if what == "job":
                self._saw(found)
            elif what == "pod":
                self._saw_pod(found)
            elif what == "deleted":
                break
            else:
                raise found

    def _stop(self) -> None:
        self._events.put(("error", stopping.Stopped("stopped by the caller")))

    # -- Watches, each in a thread.

    def _guarded(self, watch: Callable[[], None]) -> None:
        try:
            watch()
        except StokerError as error:
            self._events.put(("error", error))

    def _watch_job(self) -> None:
        name, version = self._job["metadata"]["name"], self._job["metadata"].get("resourceVersion", "")
        failures = 0
        while not self._over.is_set():
            try:
                for kind, found in self._cluster.kube.watch(
                    self._cluster.path(), fieldSelector=f"metadata.name={name}", resourceVersion=version
                ):
                    failures, version = 0, found["metadata"]["resourceVersion"]
                    if found["metadata"]["uid"] == self._job["metadata"]["uid"]:
                        self._events.put(("deleted" if kind == "DELETED" else "job", found))
            except StokerError as error:
                if isinstance(error, Refused) and error.status not in (410, 429, 500, 503, 504):
                    raise
                failures += 1
                if failures > 8:
                    raise
                self._over.wait(min(0.2 * 2**failures, 10.0))
                version = ""  # a watch without one begins with the object as it is

    def _watch_pods(self) -> None:
        selector = f"{LABEL_UID}={self._job['metadata']['uid']}"
        path, failures = f"/api/v1/namespaces/{self._cluster.namespace}/pods", 0
        while not self._over.is_set():
            try:
                for _, pod in self._cluster.kube.watch(path, labelSelector=selector):
                    failures = 0
                    self._events.put(("pod", pod))
            except StokerError as error:
                if isinstance(error, Refused) and error.status == 403:
                    return  # who may not see pods reads the stored log at the end
                failures += 1
                if failures > 8:
                    return
                self._over.wait(min(0.2 * 2**failures, 10.0))

    # -- Events, in the calling thread.

    def _saw(self, job: dict[str, Any]) -> None:
        self._job = job
        status = job.get("status") or {}
        phase = status.get("phase") or "Pending"
        self._tell_image(status.get("environment") or {})
        if phase != self._phase:
            self._changed(phase, status)
        waiting = status.get("waiting") or {}
        line = waiting.get("message", "") if phase not in FINISHED else ""
        if line and line != self._waiting and self._phases:
            self._listener.step("waiting", "; ".join(part for part in (line, waiting.get("fix")) if part), "")
        self._waiting = line

    def _tell_image(self, environment: Mapping[str, Any]) -> None:
        """Once, where the image that was found or built by content comes from."""
        how = _SOURCES.get(str(environment.get("source")))
        if how is None or self._image_told or not environment.get("image") or not self._phases:
            return
        self._image_told = True
        name, _, digest = str(environment["image"]).partition("@")
        self._listener.step("image", f"{name.rpartition('/')[2]}@{digest[:11]}…", how)

    def _changed(self, phase: str, status: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if self._phase and self._phases:
            took = now - self._since
            if self._phase != "Running" and took >= 0.05:
                self._listener.step(
                    _LABELS.get(self._phase, self._phase.lower()), _words(self._phase, status), "", took
                )
            if phase == "Running":
                self._listener.step("run", self._job["metadata"]["name"], "log follows; Ctrl-C detaches")
        self._phase, self._since = phase, now

    def _saw_pod(self, pod: Mapping[str, Any]) -> None:
        labels = pod["metadata"].get("labels", {})
        main = next(
            (one for one in (pod.get("status") or {}).get("containerStatuses", ()) if one["name"] == "main"), None
        )
        if main is None or not ({"running", "terminated"} & set(main.get("state", {}))):
            return
        where = (int(labels.get(LABEL_ATTEMPT, 1)), int(labels.get(LABEL_RANK, 0)))
        if where in self._logs:
            return
        if where[0] > 1 and all(attempt < where[0] for attempt, _ in self._logs):
            self._listener.note(f"attempt {where[0]}")
        log = self._logs[where] = RankLog(*where, self._sink)
        log.thread = threading.Thread(target=self._follow_log, args=(log, pod["metadata"]["name"]), daemon=True)
        log.thread.start()

    def _follow_log(self, log: RankLog, pod: str) -> None:
        log.from_pod(self._cluster.kube, self._cluster.namespace, pod)
        if self._over.is_set() or self._phase in ("Finalizing", *FINISHED):
            return
        try:
            # Its own connection: the main thread's may be in the middle of an answer.
            log.from_store(
                Server(self._cluster.kube_copy(), self._cluster.namespace), self.key, to_the_end=True, over=self._over
            )
        except StokerError:
            return  # asked again, and told, when the run has ended

    # -- The end.

    def _finish_logs(self) -> None:
        """After the end nothing more is written: let the streams run out, then print what they did not give."""
        self._over.set()
        for log in self._logs.values():
            if log.thread is not None:
                log.thread.join(5.0)
        self._add_unseen_ranks()
        for where in sorted(self._logs):
            log = self._logs[where]
            log.from_store(self._cluster.server(), self.key, to_the_end=False)
            log.end()

    def _add_unseen_ranks(self) -> None:
        """Ranks of the last attempt whose pods we never saw running: short ones, or those we may not look at."""
        files = self._cluster.server().files(self.key) if not self._logs else ()
        last = max((one["attempt"] for one in files), default=0)
        for one in files:
            if one["attempt"] == last:
                self._logs.setdefault((last, one["rank"]), RankLog(last, one["rank"], self._sink))


#: Where an image that was found or built by content comes from.
_SOURCES = {"built": "built", "workspace": "found in the workspace", "global": "found in a global registry"}
_LABELS = {"Pending": "accepted", "Preparing": "prepare", "Queued": "queue", "Starting": "start", "Finalizing": "save"}


def _words(phase: str, status: Mapping[str, Any]) -> str:
    if phase == "Preparing" and (status.get("environment") or {}).get("image"):
        return str(status["environment"]["image"]).rpartition("/")[2][:60]
    if phase == "Queued":
        return f"nodes of {status.get('compute', 'the pool')}"
    if phase == "Starting":
        nodes = [node for attempt in status.get("attempts", ())[-1:] for node in attempt.get("nodes", ())]
        return ", ".join(nodes[:3]) + (" …" if len(nodes) > 3 else "")
    return {"Pending": "by the operator", "Finalizing": "outputs and log"}.get(phase, "")
