"""A cluster that runs Stoker, as the CLI and the SDK use it."""

from collections.abc import Mapping
from typing import Any

from stoker.api.names import API_VERSION, job_key
from stoker.errors import BadInput, StokerError
from stoker.sdk.kube import Kube, Refused
from stoker.sdk.wayin import Server

_GROUP = f"/apis/{API_VERSION}"


class Cluster:
    """One namespace of a cluster. Used by one thread at a time; `kube` makes streams for others."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self._server: Server | None = None

    @classmethod
    def connect(cls, context: str | None = None, namespace: str | None = None) -> "Cluster":
        """The cluster and namespace that these, or the kubeconfig, name. Sends nothing; raises StokerError."""
        return cls(Kube.connect(context, namespace))

    @property
    def namespace(self) -> str:
        return self.kube.namespace

    def server(self) -> Server:
        """Stoker's server for this namespace."""
        if self._server is None:
            self._server = Server(self.kube, self.namespace)
        return self._server

    def kube_copy(self) -> Kube:
        """The same API server on connections of its own, for another thread."""
        return Kube(self.kube.access, self.kube.namespace, self.kube.context)

    def path(self, name: str = "") -> str:
        """The API path of this namespace's TrainingJobs, or of one."""
        return f"{_GROUP}/namespaces/{self.namespace}/trainingjobs" + (f"/{name}" if name else "")

    # -- What a run names, looked up before anything is sent.

    def compute(self, name: str) -> Mapping[str, Any] | None:
        """A ComputeCluster; None when we may not look. Raises BadInput with the names there are."""
        try:
            found: Mapping[str, Any] = self.kube.get(f"{_GROUP}/computeclusters/{name}")
            return found
        except Refused as error:
            if error.status == 403:
                return None
            if error.status != 404:
                raise
        known = self._names(f"{_GROUP}/computeclusters", "ComputeCluster")
        raise BadInput(
            "compute",
            f'no ComputeCluster named "{name}"',
            f"this cluster has: {', '.join(known) or 'none'}; or use local",
        )

    def computes(self) -> "list[Mapping[str, Any]] | None":
        """The ComputeClusters; None when we may not look."""
        try:
            found: list[Mapping[str, Any]] = self.kube.get(f"{_GROUP}/computeclusters")["items"]
            return found
        except Refused as error:
            if error.status == 403:
                return None
            raise

    def environment(self, name: str) -> Mapping[str, Any]:
        """The spec of an Environment of this namespace; raises BadInput with the names there are."""
        try:
            found: Mapping[str, Any] = self.kube.get(f"{_GROUP}/namespaces/{self.namespace}/environments/{name}")[
                "spec"
            ]
            return found
        except Refused as error:
            if error.status != 404:
                raise
        known = self._names(f"{_GROUP}/namespaces/{self.namespace}/environments", "Environment")
        if not known:
            self.check_namespace()
        there = ", ".join(known) or "none"
        raise BadInput(
            "environment",
            f'no Environment named "{name}"',
            f"namespace {self.namespace} has: {there}; or name an image with its tag",
        )

    def environments(self) -> "list[Mapping[str, Any]]":
        """The Environments of this namespace. Raises StokerError where Stoker is not installed or we may not look."""
        try:
            found: list[Mapping[str, Any]] = self.kube.get(f"{_GROUP}/namespaces/{self.namespace}/environments")[
                "items"
            ]
            return found
        except Refused as error:
            if error.status == 404:
                raise StokerError("this cluster does not know Environments: Stoker is not installed in it") from error
            raise

    def check_namespace(self) -> None:
        """Raises BadInput for a namespace that is not there: in one, lists are empty and nobody complains. Whoever may not
        look is believed."""
        try:
            self.kube.get(f"/api/v1/namespaces/{self.namespace}")
        except Refused as error:
            if error.status == 404:
                message = f'there is no namespace "{self.namespace}"'
                raise BadInput(
                    "--namespace", message, "name another with -n, or make it: kubectl create namespace"
                ) from None
            if error.status != 403:
                raise

    def workspace(self) -> Mapping[str, Any]:
        """The spec of this namespace's Workspace; empty when it has none. Raises StokerError when we may not look."""
        try:
            found: Mapping[str, Any] = self.kube.get(f"{_GROUP}/namespaces/{self.namespace}/workspaces/default")["spec"]
            return found
        except Refused as error:
            if error.status == 404:
                return {}
            raise

    def _names(self, path: str, kind: str) -> list[str]:
        try:
            return sorted(one["metadata"]["name"] for one in self.kube.get(path)["items"])
        except Refused as error:
            if error.status == 404:
                raise StokerError(
                    f"this cluster has no {kind}s: Stoker is not installed in it (helm install, or --context)"
                ) from error
            if error.status == 403:
                return []
            raise

    # -- TrainingJobs.

    def submit(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create a TrainingJob; raises BadInput(s) in the API server's words with the field."""
        try:
            created: dict[str, Any] = self.kube.create(
                self.path(), document, fieldValidation="Strict", fieldManager="stoker-cli"
            )
        except Refused as error:
            if error.status == 409:
                name = document["metadata"]["name"]
                message = f'a TrainingJob "{name}" exists in namespace {self.namespace}'
                raise BadInput("name", message, "a TrainingJob runs once: use another --name, or none") from error
            if error.status == 404:
                raise StokerError("this cluster does not know TrainingJobs: Stoker is not installed in it") from error
            if error.status == 403:
                raise self._may_not("create", error) from error
            raise
        return created

    def find(self, name: str) -> dict[str, Any] | None:
        """A TrainingJob, None when there is none."""
        try:
            found: dict[str, Any] = self.kube.get(self.path(name))
            return found
        except Refused as error:
            if error.status == 404:
                return None
            if error.status == 403:
                raise self._may_not("get", error) from error
            raise

    def list(self) -> list[dict[str, Any]]:
        """The TrainingJobs of this namespace; raises StokerError where Stoker is not installed or we may not look."""
        try:
            found: list[dict[str, Any]] = self.kube.get(self.path())["items"]
            return found
        except Refused as error:
            if error.status == 404:
                raise StokerError("this cluster does not know TrainingJobs: Stoker is not installed in it") from error
            if error.status == 403:
                raise self._may_not("list", error) from error
            raise

    def _may_not(self, verb: str, error: Refused) -> StokerError:
        role = "stoker-viewer" if verb in ("get", "list") else "stoker-editor"
        return StokerError(
            f"you may not {verb} TrainingJobs in namespace {self.namespace}: {error}; ask for a RoleBinding to ClusterRole "
            f"{role}"
        )

    def change(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A TrainingJob with a JSON merge patch on it: of what may change, and of its labels."""
        found: dict[str, Any] = self.kube.patch(self.path(name), patch)
        return found

    def cancel(self, name: str) -> dict[str, Any]:
        """Ask that a run ends; what it saved stays."""
        found: dict[str, Any] = self.kube.patch(self.path(name), {"spec": {"cancel": True}})
        return found

    def suspend(self, name: str, suspended: bool) -> dict[str, Any]:
        """Ask that a run gives its nodes back for now (True), or goes on (False)."""
        found: dict[str, Any] = self.kube.patch(self.path(name), {"spec": {"suspend": suspended}})
        return found

    def delete(self, job: Mapping[str, Any]) -> None:
        """Delete this very TrainingJob, and no later one of its name; one that is gone is no error."""
        meta = job["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}, "propagationPolicy": "Background"}
        try:
            self.kube.delete(self.path(meta["name"]), options)
        except Refused as error:
            if error.status == 403:
                raise self._may_not("delete", error) from error
            if error.status not in (404, 409):
                raise


def key_of(job: Mapping[str, Any]) -> str:
    """The key of a TrainingJob's run; an earlier one's, where the job shows what its name came to before (PerName)."""
    shown: str = (job.get("status") or {}).get("key") or ""
    return shown or job_key(job["metadata"]["name"], job["metadata"]["uid"])
