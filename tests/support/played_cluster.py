"""A cluster that the test plays: an API server of the test's own, and Stoker's real server behind it."""

import hashlib
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.api.names import job_key
from stoker.storage import layout
from stoker.storage.objects import run
from tests.support.apiserver import PODS, ApiServer, api_server
from tests.support.serving import Served, job_record, serving

LOG = b"epoch 1\nepoch 2\n"


@dataclass
class PlayedCluster:
    """The API server and Stoker's server. kubeconfig: of the API server."""

    api: ApiServer
    served: Served
    kubeconfig: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client finds it."""
        return {"KUBECONFIG": str(self.kubeconfig), "STOKER_SERVER": self.served.url}

    @contextmanager
    def finishing_jobs(self, outputs: dict[str, bytes] | None = None) -> Iterator[None]:
        """While inside, every job that is created runs and ends well."""
        over = threading.Event()

        def operate() -> None:
            while not over.is_set():
                try:
                    job = self.api.created.get(timeout=0.05)
                except queue.Empty:
                    continue
                if job["kind"] == "TrainingJob":
                    self.start_pod(job, LOG)
                    self.finish(job, outputs=outputs)

        operator = threading.Thread(target=operate)
        operator.start()
        try:
            yield
        finally:
            over.set()
            operator.join()

    def put(self, key: str, content: bytes) -> None:
        run(self.served.store().put(key, content))

    def key(self, job: dict[str, Any]) -> str:
        return job_key(job["metadata"]["name"], job["metadata"]["uid"])

    def start_pod(self, job: dict[str, Any], printed: bytes) -> None:
        """The operator's part up to a running pod that has printed something."""
        name, key = job["metadata"]["name"], self.key(job)
        record = job_record("team", name, job["metadata"]["uid"])
        self.put(layout.job_record(key), json.dumps(record).encode())
        self.api.status(name, phase="Preparing")
        self.api.status(
            name, phase="Running", compute="cpu", logs=f"s3://b/team/jobs/{key}/attempts/1/0/logs/std_log.txt"
        )
        labels = {
            "stoker.dev/job-uid": job["metadata"]["uid"],
            "stoker.dev/attempt": "1",
            "batch.kubernetes.io/job-completion-index": "0",
        }
        states = [{"name": "main", "state": {"running": {}}}]
        self.api.put(
            f"{PODS}/{name}-0",
            {"metadata": {"name": f"{name}-0", "labels": labels}, "status": {"containerStatuses": states}},
        )
        self.api.logs.put(printed)

    def finish(
        self, job: dict[str, Any], phase: str = "Completed", code: int = 0, outputs: dict[str, bytes] | None = None
    ) -> None:
        """The end: a sealed rank, a result, and the last status."""
        key, outputs = self.key(job), outputs if outputs is not None else {"model.bin": b"m" * 100}
        files = {"logs/std_log.txt": LOG, **{f"outputs/{path}": content for path, content in outputs.items()}}
        for path, content in files.items():
            self.put(layout.rank_prefix(key, 1, 0) + path, content)
        sealed = [{"path": path, "size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for path, c in files.items()]
        seal = {
            "version": 1, "job": key, "attempt": 1, "rank": 0, "complete": True, "reason": None, "message": "", "exit": None,
            "files": sealed, "missing": [], "sealedAt": "2026-01-02T03:05:00Z", "sealedBy": "server",
        }  # fmt: skip
        self.put(layout.seal(key, 1, 0), json.dumps(seal).encode())
        result = {
            "version": 1, "name": job["metadata"]["name"], "namespace": "team", "uid": job["metadata"]["uid"], "key": key,
            "phase": phase, "reason": phase, "message": "", "exitCode": code, "startedAt": None,
            "finishedAt": "2026-01-02T03:05:00Z", "timings": {"Running": 1.0},
            "attempts": [{"number": 1, "reason": phase, "ranks": []}],
            "outputs": [{**one, "path": one["path"].removeprefix("outputs/"), "attempt": 1, "rank": 0} for one in sealed[1:]],
        }  # fmt: skip
        self.put(layout.job_result(key), json.dumps(result).encode())
        self.api.logs.put(None)
        self.api.status(job["metadata"]["name"], phase=phase, exitCode=code, reason=phase)


@contextmanager
def played_cluster(folder: Path) -> Iterator[PlayedCluster]:
    """A cluster in which a person may edit, in namespace `team`."""
    with api_server(folder) as (api, kubeconfig), serving(Served(folder / "stores")) as served:
        served.kube.account("people", "team", "stoker-editor")
        yield PlayedCluster(api, served, kubeconfig)
