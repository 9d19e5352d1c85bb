"""What a command or a client works with: who hears of its progress, the folder it stands in, the cluster it means."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stoker.sdk.client import Cluster
    from stoker.sdk.settings import Settings


class Listener(Protocol):
    """Who hears of progress: of a run's, and of what is done for it."""

    def step(self, label: str, what: str, detail: str = "", seconds: float | None = None) -> None:
        """One phase, done or begun."""

    def note(self, line: str) -> None:
        """One line of progress."""

    def warn(self, line: str) -> None:
        """Something that a person should know, however quiet it shall be."""

    def log_descriptor(self) -> int:
        """The file descriptor that a followed log goes to."""


@dataclass
class Session:
    """listener: who hears of progress. context, namespace: as they were asked for. here: the current folder."""

    listener: Listener
    context: str | None
    namespace: str | None
    here: Path
    _cluster: "Cluster | None" = None
    _settings: "Settings | None" = None

    @property
    def settings(self) -> "Settings":
        """The project's settings of the current folder."""
        if self._settings is None:
            from stoker.sdk import settings

            self._settings = settings.read([self.here])
        return self._settings

    def use_settings(self, found: "Settings") -> None:
        """Settings that were read elsewhere: of a job file's folder."""
        self._settings = found

    def cluster(self) -> "Cluster":
        """The cluster that flags, settings and the kubeconfig name; raises StokerError when there is none."""
        if self._cluster is None:
            from stoker.sdk.client import Cluster

            self._cluster = Cluster.connect(
                self.context or self.settings.context, self.namespace or self.settings.namespace
            )
        return self._cluster
