"""How questions about environments are answered: files of snapshots, records of registries, logs of builds."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from stoker.controller.pull_secrets import PullSecrets
from stoker.controller.workspaces import Workspaces
from stoker.core.environment.builds import CONTAINER
from stoker.core.plan import (
    Answer,
    BuildLog,
    EnvironmentRecord,
    Found,
    LockCopy,
    Lookup,
    Refused,
    SnapshotEntries,
    SnapshotFiles,
    SnapshotUrl,
    Unavailable,
)
from stoker.images.auth import Keyring
from stoker.images.records import Records
from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError, NotFound, Rejected
from stoker.storage import layout, snapshots
from stoker.storage.objects import NoSuchObject
from stoker.storage.signing import Signer
from stoker.storage.snapshot_texts import NotText, read_texts

#: Of a build's log so much is kept (bytes).
MOST_LOG_BYTES = 16 << 20
#: A log that is not there yet is asked for again after so long, in seconds.
LOG_AGAIN_SECONDS = 2.0
#: What only a person can mend is looked at again after so long, in seconds.
MENDED_SECONDS = 60.0


class EnvironmentOracle:
    """Answers by the kind of question: `ways`. Raises what stores raise; whoever asks knows what to say of that."""

    def __init__(
        self, workspaces: Workspaces, client: KubeClient, records: Records, pull_secrets: PullSecrets,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._workspaces = workspaces
        self._client = client
        self._records = records
        self._pull_secrets = pull_secrets
        self._clock = clock
        self.ways: dict[type, Callable[[Any], Awaitable[Answer]]] = {
            SnapshotFiles: self._snapshot_files,
            SnapshotEntries: self._snapshot_entries,
            SnapshotUrl: self._snapshot_url,
            EnvironmentRecord: self._environment_record,
            BuildLog: self._build_log,
            LockCopy: self._lock_copy,
        }

    # -- the job's code

    async def _snapshot_files(self, question: SnapshotFiles) -> Answer:
        store = self._workspaces.open(question.namespace)
        try:
            return Found(await read_texts(store, question.digest, question.paths))
        except NotText as error:
            return Refused("FileNotText", str(error), "name a small text file of the job's code")
        except NoSuchObject:
            return self._no_snapshot(question.namespace, question.digest)

    async def _snapshot_entries(self, question: SnapshotEntries) -> Answer:
        entries = await snapshots.read_manifest(self._workspaces.open(question.namespace), question.digest)
        return self._no_snapshot(question.namespace, question.digest) if entries is None else Found(entries)

    async def _snapshot_url(self, question: SnapshotUrl) -> Answer:
        url = self._workspaces.open(question.namespace).url
        signer = Signer(url, self._workspaces.options, expires=question.seconds)
        signed = await asyncio.to_thread(signer.get, layout.snapshot_zip(question.digest))
        return Found(signed.url)

    def _no_snapshot(self, namespace: str, digest: str) -> Refused:
        return Refused(
            "SnapshotNotFound",
            f"namespace {namespace} has no snapshot {digest}",
            "push the folder with `stoker snapshot DIR --push`, or submit with `stoker run`",
            self._clock() + MENDED_SECONDS * random.uniform(0.8, 1.2),
        )

    # -- registries

    async def _environment_record(self, question: EnvironmentRecord) -> Answer:
        """The first of the places that has the record; only 404 of each of them is a miss."""
        for number, place in enumerate(question.places):
            async with self._keyring(question.namespace, place.secret) as keyring:
                image = await self._records.find(
                    place, question.key, question.definition_key, keyring,
                    source="global" if number else "workspace", refresh=question.refresh,
                    signed=question.signed and not number,
                )  # fmt: skip
            if image is not None:
                return Found(Lookup(self._clock(), image))
        return Found(Lookup(self._clock()))

    async def _lock_copy(self, question: LockCopy) -> Answer:
        async with self._keyring(question.namespace, question.place.secret) as keyring:
            content = await self._records.lock(question.place, question.key, keyring)
        if content is None:
            message = f"{question.place.url} has no record of {question.key}"
            return Refused("RecordMissing", message, "the image is built anew when it is wanted")
        store = self._workspaces.open(question.namespace)
        await store.put(layout.lock(question.key), content)
        return Found(True)

    def _keyring(self, namespace: str, secret: str) -> AbstractAsyncContextManager[Keyring]:
        return self._pull_secrets.used(namespace, (secret,) if secret else ())

    # -- logs of builds

    async def _build_log(self, question: BuildLog) -> Answer:
        try:
            log = await self._client.pod_log(question.namespace, question.pod, CONTAINER, limit_bytes=MOST_LOG_BYTES)
        except NotFound:
            message = f"pod {question.pod} has gone, and what was not copied of its log"
            return Refused("PodGone", message, "what was copied before stays; the next build has a log of its own")
        except (Rejected, KubeError) as error:
            again = self._clock() + LOG_AGAIN_SECONDS
            return Unavailable("LogUnavailable", error.message, "see whether the node's kubelet answers", again)
        store = self._workspaces.open(question.namespace)
        if question.moment == "end":
            await store.put(layout.try_log(question.key, question.began), log)
        if question.newest:
            await store.put(layout.build_log(question.key), log)
        return Found(len(log))
