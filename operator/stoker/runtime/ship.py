"""Saves what a run writes, while it runs and after it, and closes the rank with a seal.

One thread decides (`Ship.run`); lanes do the slow calls. What the store has accepted stands in a journal on scratch,
so a ship that was killed goes on where it was. Nothing that a training script leaves behind stops it: each file is
either stored, or named as missing with the reason, or named as skipped.
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from stoker.runtime import wire
from stoker.runtime.alive import AliveWatch
from stoker.runtime.journal import Journal
from stoker.runtime.lanes import Done, Lanes
from stoker.runtime.layout import Scratch, read_json, utc_now, write_json
from stoker.runtime.logfeed import PIECE_BYTES, LogFeed
from stoker.runtime.saving import FileSaver, Settings, StoreState
from stoker.runtime.scan import Found, Scan, scan
from stoker.runtime.tracking.book import summary
from stoker.runtime.transport import Absent, Sealed, Transport
from stoker.runtime.upload import Changed, Uploader
from stoker.runtime.web import Refused, backoff

__all__ = ["Lost", "Settings", "Ship", "main"]

_MOST_LOG_TRIES = 8
_MOST_LISTED_BYTES = 3000


class Lost(NamedTuple):
    """Why a pod is lost whose launcher left no exit record. reason: one CamelCase word."""

    reason: str
    message: str


class Ship:
    """The saving of one rank. say: takes one line for people. lost: set for the remains of a pod that is gone."""

    def __init__(
        self,
        scratch: Scratch,
        transport: Transport,
        settings: Optional[Settings] = None,
        say: Callable[[str], None] = lambda line: None,
        lost: Optional[Lost] = None,
    ) -> None:
        self._scratch, self._transport, self._settings = scratch, transport, settings or Settings()
        self._say, self._lost = say, lost
        # The one thing the deciding thread waits on. put() of a SimpleQueue may be called by a signal handler.
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._journal = Journal(scratch.journal)
        self._state = StoreState(say)
        self._uploader = Uploader(
            scratch.work,
            transport,
            self._journal,
            partial(_carried, scratch),
            self._state.accepted,
            self._state.sending,
        )
        self._lanes, self._log_lane = Lanes(self._settings.lanes, self._events.put), Lanes(1, self._events.put)
        self._files = FileSaver(self._uploader, self._journal, self._lanes, self._state, self._settings, say)
        self._log = LogFeed(scratch, transport, self._journal)
        self._log_failures, self._log_due = 0, 0.0
        self._whole_log: Optional[wire.StoredFile] = None
        self._log_trouble, self._log_tries = "", 0
        self._ended_at: Optional[float] = None
        self._told_to_stop = self._given_up = False

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended (or its launcher has died)."""
        return self._ended_at is not None

    def command_ended(self) -> None:
        """Say that the command has ended, where no FIFO can. From any thread."""
        self._events.put(self._note_end)

    def hurry(self) -> None:
        """The pod is being ended: from a signal handler or any thread."""
        self._events.put(self._note_stop)

    def give_up(self) -> None:
        """Save no more: seal what is stored by now, with the rest named as missing. From a signal handler or any
        thread."""
        self._events.put(self._note_given_up)

    def run(self) -> Dict[str, Any]:
        """Save until the command has ended, then save the rest, seal, and return what was written to run/sealed:
        `complete`, `reason`, `message`, and in `stands` whether the store has a seal of the rank."""
        watch = AliveWatch(self._scratch, self.command_ended)
        watch.start()
        self._log.follow(self._say)
        try:
            self._save_while_running()
            sealed = self._finish(self._exit_record())
        finally:
            watch.close()
            self._log.close()
            self._lanes.close()
            self._log_lane.close()
        outcome: Dict[str, Any] = {
            "version": 1,
            "complete": sealed.complete,
            "reason": sealed.reason,
            "message": sealed.message,
            "stands": sealed.stands,
        }
        write_json(self._scratch.sealed, outcome)
        self._journal.close()
        return outcome

    # While the command runs

    def _save_while_running(self) -> None:
        scan_due = 0.0
        former: Dict[str, Found] = {}
        while not self.has_ended:
            now = time.monotonic()
            urgent = self._told_to_stop or os.path.exists(self._scratch.stopping)
            if urgent:
                # What was due after an ordinary pause is due sooner now.
                scan_due = min(scan_due, now + 0.5)
            if now >= scan_due:
                found = self._scan().files
                # Two looks with the same stamp: a file that is being written is left alone.
                self._files.offer(file for path, file in found.items() if _same_stamp(former.get(path), file))
                former = found
                took = time.monotonic() - now
                # About 1 % of a core, unless that would leave a file waiting for more than 10 s.
                pause = max(self._settings.scan_seconds, min(100 * took, 10.0), 4 * took)
                scan_due = now + (min(pause, 0.5) if urgent else pause)
            self._feed_log(urgent)
            self._files.feed()
            self._wait(min(scan_due, self._log_due, now + 0.5) - time.monotonic())
            if self._told_to_stop and not os.path.exists(self._scratch.started):
                # The kubelet stops us after the command's container: this one never came so far.
                self._note_end()

    def _feed_log(self, urgent: bool) -> None:
        now = time.monotonic()
        if self._log_lane.busy or self._state.closed:
            self._log_due = max(self._log_due, now + 0.05)
            return
        grown = self._log_failures == 0 and self._log.waiting_bytes() >= PIECE_BYTES
        if now < self._log_due and not grown:
            return
        interval = self._settings.log_seconds * (0.5 if urgent else self._log.interval_factor)
        if self._log.waiting_bytes():
            self._log_due = now + interval
            self._log_lane.start(self._log.send_piece, self._log_landed)
        else:
            # The first line goes up at once.
            self._log_due = now + (min(0.1, interval) if self._journal.log_offset == 0 else interval)

    def _log_landed(self, done: Done[bool]) -> None:
        if done.error is None:
            self._log_failures = 0
            self._state.accepted()
            return
        self._log_failures += 1
        self._log_due = time.monotonic() + backoff(self._log_failures, getattr(done.error, "retry_after", None))
        self._state.failed(done.error)

    # After the command's end

    def _exit_record(self) -> wire.ExitRecord:
        """What launch wrote; else what can be said without it, kept in the same place for a later ship."""
        try:
            record = wire.exit_record(read_json(self._scratch.exit))
        except (ValueError, OSError):
            record = _lost_record(self._scratch, self._lost)
            write_json(self._scratch.exit, record.document())
            # Its children may still be at it for a moment: they die after the FIFO is closed.
            time.sleep(self._settings.settle_seconds)
        if not record.log_tail:
            size, tail = self._log.size_and_tail()
            record = record._replace(log_bytes=size, log_tail=tail)
        return record._replace(metrics=summary(self._scratch))

    def _finish(self, record: wire.ExitRecord) -> Sealed:
        self._files.begin_final()
        self._log_failures, self._log_due = 0, 0.0
        # A follower sees the last lines now, however long the rest takes.
        self._feed_log(urgent=True)
        self._log_due = 0.0
        lost: List[str] = []
        for _ in range(3):
            seen = self._save_rest()
            self._uploader.abort_leftovers()
            try:
                return self._seal(record, seen)
            except Absent as error:
                self._say(str(error))
                lost = list(error.paths)
                for path in lost:
                    self._journal.forget(path)
                self._whole_log = None
        message = "accepted by the store and then not there: %s" % ", ".join(lost)
        return Sealed(False, "OutputsNotSaved", message, False, stands=False)

    def _save_rest(self) -> Scan:
        """Save all that is on scratch, until a walk finds nothing more to do or saving has to be given up."""
        while True:
            seen = self._scan()
            todo = self._files.open(seen.files.values())
            if (not todo and self._whole_log_is_done()) or self._must_give_up():
                return seen
            self._files.offer(todo)
            while (self._files.pending or not self._whole_log_is_done()) and not self._must_give_up():
                self._files.feed()
                self._feed_whole_log()
                self._wait(0.05)

    def _scan(self) -> Scan:
        """What there is to save. Before the command has started there is nothing: what fetch brings is not an output,
        and half of it is not even whole."""
        if not os.path.exists(self._scratch.started):
            return Scan({}, {}, {})
        return scan(self._scratch.work)

    def _whole_log_is_done(self) -> bool:
        given_up = self._log_tries >= _MOST_LOG_TRIES
        return self._whole_log is not None or given_up or not self._log.is_there

    def _feed_whole_log(self) -> None:
        if self._whole_log_is_done() or self._log_lane.busy or time.monotonic() < self._log_due:
            return
        self._log_lane.start(lambda: self._log.send_whole(self._uploader), self._whole_log_landed)

    def _whole_log_landed(self, done: Done[Optional[wire.StoredFile]]) -> None:
        self._whole_log = done.result
        if done.error is None:
            return
        if isinstance(done.error, (Changed, OSError)):
            # The log itself is odd: a link or a folder in its place, or someone still writes. That hardly mends.
            self._log_tries += 1
            self._log_trouble = "Unreadable: %s" % done.error
            self._log_due = time.monotonic() + 0.2
            return
        self._log_failures += 1
        self._log_due = time.monotonic() + backoff(self._log_failures, getattr(done.error, "retry_after", None))
        self._state.failed(done.error)

    def _must_give_up(self) -> bool:
        now, state = time.monotonic(), self._state
        stalled = state.has_stalled(self._ended_at or now, self._settings.stall_seconds)
        if self._given_up or state.closed or stalled:
            return True
        refused_since = max(state.refused_since, self._ended_at or now) if state.refused_since else now
        return now - refused_since > self._settings.refused_seconds

    # The seal

    def _seal(self, record: wire.ExitRecord, seen: Scan) -> Sealed:
        files, missing = self._account(seen)
        skipped = [{"path": path, "reason": reason} for path, reason in sorted(seen.skipped.items())]
        failures, begun = 0, time.monotonic()
        # After saving was given up the seal still gets a little time of its own: with it, the list is stored.
        patience = self._settings.stall_seconds if not self._must_give_up() else min(60.0, self._settings.stall_seconds)
        while True:
            try:
                return self._transport.seal(record.document(), files, [file.document() for file in missing], skipped)
            except Absent:
                raise
            except Exception as error:
                self._state.failed(error)
                failures += 1
                wait = backoff(failures, getattr(error, "retry_after", None))
                limit = min(patience, self._settings.refused_seconds) if isinstance(error, Refused) else patience
                if self._given_up or self._state.closed or time.monotonic() + wait - begun > limit:
                    return _not_sealed(error, missing, stands=self._state.closed)
                self._wait(wait)

    def _account(self, seen: Scan) -> "tuple[List[wire.StoredFile], List[wire.MissingFile]]":
        """What is stored, and what should be and is not."""
        files, missing = [], [wire.MissingFile(path, *rest) for path, rest in sorted(seen.unsaved.items())]
        for path, file in sorted(seen.files.items()):
            if not self._files.is_saved(file):
                missing.append(wire.MissingFile(path, file.size, self._files.why(path)))
            elif not self._journal.saved[path].carried:
                files.append(self._journal.saved[path].file)
        if self._whole_log is not None:
            files.append(self._whole_log)
        elif self._log.is_there:
            missing.append(
                wire.MissingFile(
                    wire.LOG_PATH, self._log.size_and_tail()[0], self._log_trouble or self._files.why(wire.LOG_PATH)
                )
            )
        return files, missing

    # Events

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._events.get(timeout=max(0.001, seconds))()
            while True:
                self._events.get_nowait()()

    def _note_end(self) -> None:
        if self._ended_at is None:
            self._ended_at = time.monotonic()

    def _note_stop(self) -> None:
        self._told_to_stop = True

    def _note_given_up(self) -> None:
        self._given_up = True


def _lost_record(scratch: Scratch, lost: Optional[Lost]) -> wire.ExitRecord:
    try:
        started = read_json(scratch.started)
    except (ValueError, OSError):
        started = None
    if lost is not None:
        begun = started.get("startedAt") if isinstance(started, dict) else None
        return wire.ExitRecord(reason=lost.reason, message=lost.message, started_at=begun, finished_at=utc_now())
    if not isinstance(started, dict):
        return wire.ExitRecord(
            reason="NotStarted", message="the pod was ended before the command had started", finished_at=utc_now()
        )
    return wire.ExitRecord(
        reason="LauncherLost",
        message="the command's container was killed; most often it was out of memory",
        started_at=started.get("startedAt"),
        finished_at=utc_now(),
    )


def _not_sealed(error: Exception, missing: List[wire.MissingFile], *, stands: bool) -> Sealed:
    message = "the seal was not accepted: %s%s" % (error, "; not saved: " + _listed(missing) if missing else "")
    return Sealed(False, "OutputsNotSaved", message, False, stands)


def _listed(missing: List[wire.MissingFile]) -> str:
    """As many paths as the 4 KiB hold that Kubernetes keeps of a container's last words."""
    paths, room = [file.path for file in missing], _MOST_LISTED_BYTES
    for count, path in enumerate(paths):
        room -= len(path.encode("utf-8")) + 2
        if room < 0 and count:
            return "%s and %d more" % (", ".join(paths[:count]), len(paths) - count)
    return ", ".join(paths)


def _same_stamp(former: Optional[Found], file: Found) -> bool:
    return former is not None and former.stamp == file.stamp


def _carried(scratch: Scratch) -> Dict[str, wire.StoredFile]:
    """What lay in the working directory before the command started, by its path there."""
    try:
        documents = read_json(scratch.carried) or {}
        return {
            path: wire.StoredFile(path, document["size"], document["sha256"]) for path, document in documents.items()
        }
    except (ValueError, OSError, AttributeError, KeyError, TypeError):
        # The training script can write there. Without the list more is saved, never less.
        return {}


def main(arguments: List[str]) -> int:
    """`ship`: the sidecar of a pod. See `stoker.runtime.sidecar`."""
    from stoker.runtime import sidecar

    return sidecar.main(arguments)
