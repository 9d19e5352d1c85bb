"""How each question is answered: by a namespace's store, or by a registry. Whatever they do becomes an answer."""

import json
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from stoker.controller.closing import close_rank
from stoker.controller.environment_oracle import EnvironmentOracle
from stoker.controller.holding import name_holder
from stoker.controller.pull_secrets import PullSecrets
from stoker.controller.refusals import TOLD
from stoker.controller.refusals import answer as told
from stoker.controller.workspaces import Workspaces
from stoker.core.inputdigest import ListedFile
from stoker.core.plan import (
    Answer,
    CloseRank,
    Found,
    ImageDigest,
    InlineSnapshot,
    InputFiles,
    NameHolder,
    Question,
    Recorded,
    Refused,
    ResultWritten,
    Seals,
    SnapshotPresent,
    StoragePreflight,
    Unavailable,
)
from stoker.images.registry import Registry
from stoker.storage import records, snapshots
from stoker.storage.listing import SnapshotError
from stoker.storage.objects import ObjectStore
from stoker.storage.preflight import Preflight, check_store

#: An input folder has at most so many files.
MOST_INPUT_FILES = 10_000
#: A store or registry that did not answer is asked again after so long, somewhat spread.
AGAIN_SECONDS = 10.0
#: What only a person can mend is looked at again after so long.
MENDED_SECONDS = 60.0
#: A store whose promises were tried is not tried again before so long, whatever becomes of its Workspace meanwhile.
PREFLIGHT_SECONDS = 3600.0


class Asking:
    """The oracle behind `Answers`."""

    def __init__(
        self,
        workspaces: Workspaces,
        registry: Registry,
        pull_secrets: PullSecrets,
        clock: Callable[[], float] = time.time,
        *,
        environments: EnvironmentOracle | None = None,
    ) -> None:
        self._workspaces = workspaces
        self._registry = registry
        self._pull_secrets = pull_secrets
        self._clock = clock
        self._ways: dict[type, Callable[[Any], Awaitable[Answer]]] = {
            SnapshotPresent: self._snapshot_present,
            InlineSnapshot: self._inline_snapshot,
            InputFiles: self._input_files,
            ImageDigest: self._image_digest,
            Recorded: self._recorded,
            NameHolder: self._name_holder,
            Seals: self._seals,
            CloseRank: self._close_rank,
            ResultWritten: self._result_written,
            StoragePreflight: self._storage_preflight,
            **(environments.ways if environments is not None else {}),
        }
        #: By storage URL: when it may be tried next, and what was found; None while it is being tried.
        self._preflights: dict[str, tuple[float, Answer]] = {}

    async def __call__(self, question: Question) -> Answer:
        way = self._ways.get(type(question))
        if way is None:
            raise TypeError(f"nobody answers {type(question).__name__}")
        try:
            return await way(question)
        except TOLD as error:
            mended_at = self._clock() + MENDED_SECONDS * random.uniform(0.8, 1.2)
            return told(error, mended_at, self._clock() + AGAIN_SECONDS * random.uniform(0.5, 1.5))

    def _refused(self, reason: str, message: str, fix: str) -> Refused:
        return Refused(reason, message, fix, self._clock() + MENDED_SECONDS * random.uniform(0.8, 1.2))

    def _open(self, namespace: str) -> ObjectStore:
        return self._workspaces.open(namespace)

    # -- code and inputs

    async def _snapshot_present(self, question: SnapshotPresent) -> Answer:
        # An old one is made young again: retention must not take what a job has just named.
        if await snapshots.claim(self._open(question.namespace), question.digest):
            return Found(True)
        return self._refused(
            "SnapshotNotFound",
            f"namespace {question.namespace} has no snapshot {question.digest}",
            "push the folder with `stoker snapshot DIR --push`, or submit with `stoker run`",
        )

    async def _inline_snapshot(self, question: InlineSnapshot) -> Answer:
        try:
            pushed = await snapshots.push_inline(self._open(question.namespace), dict(question.files))
        except SnapshotError as error:
            return Refused("InlineCodeInvalid", str(error), "correct spec.command.code.inline in a job of a new name")
        return Found(pushed.digest)

    async def _input_files(self, question: InputFiles) -> Answer:
        store = self._open(question.namespace)
        base = f"{store.url}/"
        if not question.path.startswith(base):
            return Refused(
                "InputNotAllowed",
                f"path {question.path} does not lie under this namespace's storage {base}",
                f"copy the data below {base}, or give a local folder to `stoker run`",
            )
        key = question.path[len(base) :]
        if question.single:
            stored = await store.head(key)
            if stored is None:
                return self._refused("InputNotFound", f"there is no object {question.path}", "check the path")
            return Found(((stored.key, stored.key.rpartition("/")[2], stored.size, stored.etag),))
        prefix = key if key.endswith("/") or not key else f"{key}/"
        found: list[ListedFile] = []
        async for stored in store.list(prefix):
            if stored.key.endswith("/"):  # a folder's marker, as some tools write it
                continue
            found.append((stored.key, stored.key[len(prefix) :], stored.size, stored.etag))
            if len(found) > MOST_INPUT_FILES:
                return self._refused(
                    "InputTooManyFiles",
                    f"{question.path} holds more than {MOST_INPUT_FILES} files",
                    "pack them into fewer files",
                )
        if not found:
            return self._refused("InputNotFound", f"there is nothing below {question.path}", "check the path")
        return Found(tuple(found))

    # -- images

    async def _image_digest(self, question: ImageDigest) -> Answer:
        mirrors = self._workspaces.view(question.namespace).means.mirrors.images
        async with self._pull_secrets.used(question.namespace, question.pull_secrets) as keyring:
            return Found(await self._registry.resolve(question.reference, question.platform, keyring, mirrors))

    # -- records

    async def _recorded(self, question: Recorded) -> Answer:
        record: records.JobRecord = json.loads(question.record)
        store = self._open(question.namespace)
        if await records.write_job(store, record):
            return Found(record)
        return Found(await records.read_job(store, question.key))

    async def _result_written(self, question: ResultWritten) -> Answer:
        result: records.ResultRecord = json.loads(question.result)
        store = self._open(question.namespace)
        if await records.write_result(store, result):
            return Found(result)
        return Found(await records.read_result(store, question.key))

    async def _name_holder(self, question: NameHolder) -> Answer:
        return await name_holder(self._open(question.namespace), question, self._clock())

    async def _seals(self, question: Seals) -> Answer:
        store = self._open(question.namespace)
        found: dict[int, Any] = {}
        for rank in range(question.ranks):
            seal = await records.read_seal(store, question.key, question.attempt, rank)
            if seal is not None:
                found[rank] = seal
        return Found(found)

    async def _close_rank(self, question: CloseRank) -> Answer:
        store = self._open(question.namespace)
        return Found(await close_rank(store, question, self._clock()))

    # -- the store itself

    async def _storage_preflight(self, question: StoragePreflight) -> Answer:
        view = self._workspaces.view(question.namespace)
        if view.problem is not None or view.storage_url != question.url:
            return None
        next_try, known = self._preflights.get(question.url, (0.0, None))
        if isinstance(known, Found) or self._clock() < next_try:
            return known or self._untried(next_try)
        next_try = self._clock() + PREFLIGHT_SECONDS
        # Noted before it is tried: what fails on our side must not be tried again and again either.
        self._preflights[question.url] = (next_try, None)
        found = await check_store(question.url, secrets.token_hex(8), self._workspaces.options)
        answer = _preflight_answer(found, next_try)
        self._preflights[question.url] = (next_try, answer)
        return answer

    @staticmethod
    def _untried(next_try: float) -> Unavailable:
        message = "the store was tried within the last hour, and the trial came to no end"
        return Unavailable("PreflightBroken", message, "see the operator's log", next_try)


def _preflight_answer(found: Preflight, next_try: float) -> Answer:
    if found.unreachable:
        fix = "see whether the object store answers, and what its credentials allow; it is tried again within the hour"
        return Unavailable("StorageUnreachable", found.unreachable, fix, next_try)
    if not found.missing:
        return Found(True)
    lines = [
        f"{probe.name} {'does not hold' if probe.holds is False else 'is not known'}: {probe.detail} ({probe.promise})"
        for probe in found.missing
    ]
    fix = "use a store that keeps them, or see docs/explanation/security.md for what you give up"
    return Refused("PromisesMissing", f"{found.url}: {'; '.join(lines)}", fix, next_try)


def question_name(question: Question) -> str:
    """For metrics: the question's kind."""
    return type(question).__name__


def outcome_name(answer: Answer) -> str:
    """For metrics: found, or the reason why not."""
    return answer.reason if isinstance(answer, (Refused, Unavailable)) else "Found"
