"""Which file goes up next, which is tried again and when, and which is given up and why."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set

from stoker.runtime import wire
from stoker.runtime.journal import Journal
from stoker.runtime.lanes import Done, Lanes
from stoker.runtime.scan import Found
from stoker.runtime.upload import Failure, Uploader
from stoker.runtime.web import Refused, Transient, backoff

_BATCH_FILES, _BATCH_BYTES = 64, 8 << 20
#: A file that is another one at every look after the command's end is given up after so many.
_MOST_LOOKS = 6


class Settings(NamedTuple):
    """All times in seconds. scan/log: how often the folders are walked and a piece of the log goes up. stall: saving
    ends after so long without anything accepted. refused: a refusal that someone could mend is final after so long.
    settle: how long a launcher's children may live on after it died without a word."""

    scan_seconds: float = 1.0
    log_seconds: float = 1.0
    stall_seconds: float = wire.SAVE_STALL_SECONDS
    refused_seconds: float = 300.0
    settle_seconds: float = 0.3
    lanes: int = 8


class StoreState:
    """What is known about the store from the calls so far."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        #: The rank is sealed: nothing will be taken any more.
        self.closed = False
        self.last_error = ""
        self.last_accepted = time.monotonic()
        self.refused_since: Optional[float] = None
        self._sending: Dict[object, float] = {}
        self._lock = threading.Lock()

    def accepted(self) -> None:
        self.last_accepted = time.monotonic()
        self.refused_since = None

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Around a call that sends a file or a part of one. From any thread."""
        call = object()
        with self._lock:
            self._sending[call] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._sending[call]

    def has_stalled(self, since: float, seconds: float) -> bool:
        """Whether nothing was accepted for so long, `since` counting as if something had been. A call that began within
        that time and still goes on is no stall: one over which no byte moves is given up by itself (see Web), and
        over a slow network a single file may take longer than any stall."""
        last = max(self.last_accepted, since)
        with self._lock:
            under_way = any(begun <= last + seconds for begun in self._sending.values())
        return time.monotonic() - last > seconds and not under_way

    def failed(self, error: Exception) -> None:
        """Note an error of the store or the server; an error of any other kind is a mistake of ours and goes on."""
        if not isinstance(error, (Transient, Refused, OSError)):
            raise error
        if isinstance(error, Refused):
            self.closed = self.closed or error.reason == "Sealed"
            self.refused_since = self.refused_since or time.monotonic()
        else:
            self.refused_since = None
        if str(error) != self.last_error:
            self.last_error = str(error)
            self._say("not saved for now, trying again: %s" % error)


class _Trouble:
    """A file that was not saved at the last try."""

    def __init__(self, since: float) -> None:
        self.since, self.tries, self.next_try, self.message = since, 0, since, ""
        self.given_up = False


class FileSaver:
    """Feeds files to the lanes. Used by one thread."""

    def __init__(
        self,
        uploader: Uploader,
        journal: Journal,
        lanes: Lanes,
        state: StoreState,
        settings: Settings,
        say: Callable[[str], None],
    ) -> None:
        self._uploader, self._journal, self._lanes, self._state = uploader, journal, lanes, state
        self._settings, self._say = settings, say
        self._waiting: Dict[str, Found] = {}
        #: What waits, the next one last; perhaps with some that no longer do. None: to be put in order anew.
        self._order: Optional[List[Found]] = None
        self._in_flight: Set[str] = set()
        self._trouble: Dict[str, _Trouble] = {}
        self._looks: Dict[str, int] = {}
        self._failures, self._resume_at = 0, 0.0
        #: After the command's end a file can be given up; before, it is tried for as long as the command runs.
        self.final = False

    def begin_final(self) -> None:
        """The command has ended: try everything again at once, from now on with an end."""
        self.final = True
        self._failures, self._resume_at = 0, 0.0
        self._trouble.clear()

    def offer(self, files: Iterable[Found]) -> None:
        """These, and only these, wait for being saved (less what is saved, in flight, or given up)."""
        self._waiting = {
            file.path: file
            for file in files
            if not self.is_saved(file) and file.path not in self._in_flight and not self._is_given_up(file.path)
        }
        self._order = None

    @property
    def pending(self) -> bool:
        """Whether any file waits or is on its way."""
        return bool(self._waiting or self._in_flight)

    def is_saved(self, file: Found) -> bool:
        """Whether the store has the file as it was found."""
        saved = self._journal.saved.get(file.path)
        return saved is not None and saved.stamp == file.stamp

    def open(self, files: Iterable[Found]) -> List[Found]:
        """The files that are neither saved nor given up."""
        return [file for file in files if not self.is_saved(file) and not self._is_given_up(file.path)]

    def why(self, path: str) -> str:
        """Why a file is not saved."""
        trouble = self._trouble.get(path)
        if trouble is not None and trouble.message:
            return trouble.message
        if self._looks.get(path, 0) >= _MOST_LOOKS:
            return "KeptChanging: it was another file at every look"
        return "NotAccepted: %s" % (self._state.last_error or "the store took nothing")

    def feed(self) -> None:
        """Start as many batches as there are free lanes: small files first, each large one alone."""
        now = time.monotonic()
        if now < self._resume_at or self._state.closed or not self._lanes.free:
            return
        if self._order is None:
            by_size = sorted(self._waiting.values(), key=lambda file: (file.size, file.path), reverse=True)
            self._order = by_size
        # Looking at all that waits for each batch would take minutes with 100,000 files.
        order, later = self._order, []
        while order and self._lanes.free:
            batch: List[Found] = []
            size = 0
            while order and len(batch) < _BATCH_FILES and (not batch or size + order[-1].size <= _BATCH_BYTES):
                file = order.pop()
                if self._waiting.get(file.path) is not file:
                    continue
                if not self._is_due(file, now):
                    later.append(file)
                    continue
                batch.append(file)
                size += file.size
            if batch:
                self._start(batch)
        order.extend(reversed(later))

    def _start(self, batch: List[Found]) -> None:
        for file in batch:
            self._in_flight.add(file.path)
            self._waiting.pop(file.path, None)
        self._lanes.start(lambda: self._uploader.save(batch), lambda done: self._landed(batch, done))

    def _landed(self, batch: List[Found], done: Done[List[Failure]]) -> None:
        self._in_flight.difference_update(file.path for file in batch)
        if done.error is not None:
            # A store that takes some and refuses some is slow, not away.
            self._failures = 1 if any(self.is_saved(file) for file in batch) else self._failures + 1
            self._resume_at = time.monotonic() + backoff(self._failures, getattr(done.error, "retry_after", None))
            for file in batch:
                if not self.is_saved(file):
                    self._wait_again(file)
            self._state.failed(done.error)
            return
        self._failures = 0
        failed = {failure.path: failure for failure in done.result or ()}
        for file in batch:
            if file.path in failed:
                self._note(failed[file.path])
                if not self._is_given_up(file.path):
                    self._wait_again(file)
                continue
            self._trouble.pop(file.path, None)
            if self.final and not self.is_saved(file):
                self._looks[file.path] = self._looks.get(file.path, 0) + 1

    def _wait_again(self, file: Found) -> None:
        self._waiting.setdefault(file.path, file)
        self._order = None

    def _note(self, failure: Failure) -> None:
        now = time.monotonic()
        trouble = self._trouble.setdefault(failure.path, _Trouble(now))
        trouble.tries += 1
        trouble.next_try = now + backoff(trouble.tries)
        if failure.message != trouble.message:
            trouble.message = failure.message
            self._say("%s: %s" % (failure.path, failure.message))
        out_of_tries = 0 < failure.tries <= trouble.tries
        trouble.given_up = self.final and (out_of_tries or now - trouble.since > self._settings.refused_seconds)

    def _is_due(self, file: Found, now: float) -> bool:
        trouble = self._trouble.get(file.path)
        return trouble is None or now >= trouble.next_try

    def _is_given_up(self, path: str) -> bool:
        trouble = self._trouble.get(path)
        return (trouble is not None and trouble.given_up) or self._looks.get(path, 0) >= _MOST_LOOKS
