"""A run as the client gives it back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.api.names import FINISHED
from stoker.errors import EXIT_PLATFORM, StokerError
from stoker.sdk.entities.entity import Entity, html_table


@dataclass(frozen=True)
class Service:
    """A page of a run. endpoint: its URL, None where there is none."""

    endpoint: str | None = None


@dataclass(kw_only=True, repr=False)
class Job(Entity):
    """A run as it stood when it was asked for; `client.jobs.get(job.name)` asks again.

    name: what the other calls take. status: Pending, Preparing, Queued, Starting, Running, Finalizing, Suspended, Canceling,
    then Completed, Failed or Canceled. compute: a ComputeCluster, or `local`. reason, message: why it waits, or how it
    ended; fix: what would help. outputs: {"path", "size", "sha256"} of each file that was saved. storage: where logs and
    outputs are kept.
    """

    name: str
    key: str
    status: str
    compute: str = ""
    namespace: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    command: str = ""
    reason: str = ""
    message: str = ""
    fix: str = ""
    exit_code: int | None = None
    submitted_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_seconds: float | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    logs: str = ""
    storage: str = ""
    archived: bool = False

    @property
    def id(self) -> str:
        """The run's key: its name and the beginning of its uid."""
        return self.key

    @property
    def type(self) -> str:
        """`command`."""
        return "command"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in FINISHED

    @property
    def studio_url(self) -> str | None:
        """The page of the run: None, for there is no web page of runs yet."""
        return None

    @property
    def services(self) -> dict[str, Service]:
        """`Studio` alone, whose endpoint is `studio_url`."""
        return {"Studio": Service(self.studio_url)}

    def __repr__(self) -> str:
        where = f"compute={self.compute!r}" + (f", namespace={self.namespace!r}" if self.namespace else "")
        more = f", reason={self.reason!r}" if self.reason and self.status != "Completed" else ""
        return f"Job(name={self.name!r}, status={self.status!r}, {where}{more})"

    def _repr_html_(self) -> str:
        rows = {
            "status": self.status, "compute": self.compute, "namespace": self.namespace or "",
            "experiment": self.experiment_name or "", "command": self.command,
            "reason": self.reason if self.status != "Completed" else "",
            "message": self.message, "fix": self.fix,
            "duration": f"{self.duration_seconds:.1f} s" if self.duration_seconds is not None else "",
            "outputs": ", ".join(str(one["path"]) for one in self.outputs), "storage": self.storage,
        }  # fmt: skip
        return html_table(self.name, {name: text for name, text in rows.items() if text})


class JobFailed(StokerError):
    """The run that was followed ended as Failed. job: the run, with its reason, message and exit code."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.name} failed: {job.reason}: {job.message}".rstrip(": "))
        self.job = job
        self.exit_code = job.exit_code or EXIT_PLATFORM


def of_told(told: Mapping[str, Any]) -> Job:
    """The Job of what `stoker show -o json` tells, or of a line of `stoker ls`."""
    return Job(
        name=told["name"], key=told["key"], status=told["phase"], compute=told["compute"], namespace=told["namespace"],
        display_name=told.get("displayName"), experiment_name=told.get("experiment"), description=told.get("description"),
        tags=dict(told.get("tags") or {}), command=told.get("command") or "", reason=told.get("reason") or "",
        message=told.get("message") or "", fix=told.get("fix") or "", exit_code=told.get("exitCode"),
        submitted_at=told.get("submittedAt"), started_at=told.get("startedAt"), finished_at=told.get("finishedAt"),
        duration_seconds=told.get("durationSeconds"), outputs=list(told.get("outputs") or ()), logs=told.get("logs") or "",
        storage=told.get("storage") or "", archived=bool(told.get("archived")),
    )  # fmt: skip
