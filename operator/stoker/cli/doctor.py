"""`stoker doctor`: what Stoker needs of a cluster or a store, asked one by one, each with what to do about it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import table
from stoker.errors import EXIT_PLATFORM, StokerError

if TYPE_CHECKING:
    from stoker.sdk.client import Cluster
    from stoker.storage.preflight import Preflight, Probe

#: The oldest Kubernetes that Stoker works with.
OLDEST = (1, 30)
_STATES = {True: "ok", False: "fails", None: "unknown"}
#: The key of no run.
_NO_RUN = "none-00000000"
_PREFLIGHT = "StoragePreflight"
_EPILOG = """\b
Examples:
  stoker doctor                                    the cluster of your kubeconfig
  stoker doctor -n team -o json
  stoker doctor --storage s3://bucket/prefix       a store, from this machine
  stoker doctor --storage .stoker

\b
Exit codes: 0 all hold; 1 one fails; 125 something could not be told.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. state: ok, fails or unknown. promise: what is lost without it, for a store's."""

    state: str
    what: str
    detail: str
    fix: str = ""
    promise: str | None = None


@click.command(epilog=_EPILOG)
@click.option("--storage", metavar="URL|DIR", help="Try this store from here, with your own credentials.")
@common
def doctor(common: Common, storage: str | None) -> int:
    """Say what works: of the cluster, its way in and its namespace's store; or, with --storage, of a store.

    A store is tried with small objects below .stoker-preflight/, which are removed again.
    """
    url: str | None = None
    namespace: str | None = None
    if storage is not None:
        from stoker.sdk.runs import kept_url

        url = kept_url(common, storage)
        lines = _of_store(common, url)
    else:
        cluster = common.cluster()
        namespace = cluster.namespace
        common.output.step("cluster", cluster.kube.context, f"namespace {namespace}")
        lines = list(_of_cluster(cluster))
    told = {"storage": url, "namespace": namespace, "checks": [asdict(line) for line in lines]}
    common.output.emit(told, lambda: _show(lines), [line.what for line in lines if line.state != "ok"])
    return exit_code(lines)


def exit_code(lines: list[Line]) -> int:
    """0: all hold; 1: one fails; 125: none fails, and one could not be told."""
    states = {line.state for line in lines}
    if "fails" in states:
        return 1
    return EXIT_PLATFORM if "unknown" in states else 0


def _show(lines: list[Line]) -> None:
    rows = [[line.state, line.what, line.detail, line.fix] for line in lines]
    table(rows, ["STATE", "WHAT", "DETAIL", "FIX"])


# -- A store, from here.


def _of_store(common: Common, url: str) -> list[Line]:
    import secrets

    from stoker.storage.objects import run
    from stoker.storage.preflight import check_store

    def told(probe: "Probe") -> None:
        common.output.step("asked", probe.name, _STATES[probe.holds])

    common.output.step("storage", url)
    return lines_of(run(check_store(url, secrets.token_hex(8), told=told)))


def lines_of(found: "Preflight") -> list[Line]:
    """A line for each promise, and one for a store that could not be used."""
    lines = [
        Line(_STATES[probe.holds], probe.name, probe.detail, "" if probe.holds else probe.promise, probe.promise)
        for probe in found.probes
    ]
    if found.unreachable:
        fix = "check the URL, AWS_ENDPOINT_URL and the credentials in your environment"
        lines.append(Line("unknown", "storage", found.unreachable, fix))
    return lines


# -- A cluster.


def _of_cluster(cluster: "Cluster") -> Iterator[Line]:
    version = _asked("API server", lambda: _version(cluster))
    yield version
    if version.state == "unknown":
        return  # nobody answers: the rest would say the same
    yield _asked("kinds", lambda: _kinds(cluster))
    token = _asked("token", lambda: _token(cluster))
    yield token
    if token.state == "ok":
        yield _asked("way in", lambda: _way_in(cluster))
    else:
        yield Line("unknown", "way in", "cannot be tried without a token", "mend the token first")
    yield _asked("storage", lambda: _storage(cluster))
    yield from _registries(cluster)


def _asked(what: str, ask: Callable[[], Line]) -> Line:
    """What a check says; an API server that does not answer it, or may not, leaves it unknown."""
    try:
        return ask()
    except StokerError as error:
        return Line("unknown", what, str(error), "see whether the API server answers you: kubectl auth whoami")


def _version(cluster: "Cluster") -> Line:
    version: dict[str, Any] = cluster.kube.get("/version")
    found = (_digits(version.get("major", "")), _digits(version.get("minor", "")))
    name = str(version.get("gitVersion") or "of an unknown version")
    if found >= OLDEST:
        return Line("ok", "API server", f"Kubernetes {name}")
    least = f"{OLDEST[0]}.{OLDEST[1]}"
    return Line("fails", "API server", f"Kubernetes {name}: Stoker needs {least} or later", "upgrade the cluster")


def _digits(text: str) -> int:
    """The number that a part of a version begins with: some vendors write `30+`."""
    match = re.match(r"\d+", str(text))
    return int(match[0]) if match else 0


def _kinds(cluster: "Cluster") -> Line:
    from stoker.api.names import API_VERSION
    from stoker.kube.resources import COMPUTE_CLUSTERS, ENVIRONMENTS, TRAINING_JOBS, WORKSPACES
    from stoker.sdk.kube import Refused

    try:
        served = {one["name"] for one in cluster.kube.get(f"/apis/{API_VERSION}").get("resources", ())}
    except Refused as error:
        if error.status != 404:
            raise
        served = set()
    wanted = [kind.plural for kind in (TRAINING_JOBS, ENVIRONMENTS, COMPUTE_CLUSTERS, WORKSPACES)]
    missing = [plural for plural in wanted if plural not in served]
    if not missing:
        return Line("ok", "kinds", f"{', '.join(wanted)} of {API_VERSION} are served")
    fix = "install the Helm chart with crds.install=true, or `kubectl apply -f crds/`"
    return Line("fails", "kinds", f"{API_VERSION} does not serve {', '.join(missing)}", fix)


def _token(cluster: "Cluster") -> Line:
    from stoker.sdk.kube import Refused
    from stoker.sdk.wayin import NoToken

    try:
        cluster.server().check_token()
    except NoToken as error:
        return Line(
            "fails", "token", str(error), "ask for a RoleBinding to ClusterRole stoker-editor, or use another -n"
        )
    except Refused as error:
        if error.status != 401:
            raise
        return Line("fails", "token", str(error), "log in again, or choose another --context")
    return Line("ok", "token", f"namespace {cluster.namespace} gives you one by TokenRequest")


def _way_in(cluster: "Cluster") -> Line:
    try:
        where = cluster.server().check_way()
    except StokerError as error:
        return Line("fails", "way in", str(error), "see the pods of stoker-server in namespace stoker-system")
    return Line("ok", "way in", f"{where} answers")


def _registries(cluster: "Cluster") -> Iterator[Line]:
    """What came of the operator's own try, for each registry that the chart knows."""
    found: list[Line] = []

    def ask() -> Line:
        found.extend(_checked(cluster))
        return found[0]

    first = _asked("registry", ask)
    yield first
    yield from found[1:]


def _checked(cluster: "Cluster") -> list[Line]:
    from stoker.api.names import SYSTEM_NAMESPACE
    from stoker.core.registrycheck import CHECKS, CONFIG_MAP, FAILS, OK, decode
    from stoker.kube.resources import CONFIG_MAPS
    from stoker.sdk.kube import Refused

    try:
        kept: dict[str, Any] = cluster.kube.get(CONFIG_MAPS.path(SYSTEM_NAMESPACE, CONFIG_MAP))
    except Refused as error:
        if error.status != 404:
            raise
        detail = "none is configured: only images that exist already can be used"
        return [Line("ok", "registry", detail, "to build environments, set registry.url in the chart's values")]
    outcomes = decode((kept.get("data") or {}).get(CHECKS, ""))
    if not outcomes:
        fix = "wait a minute; then see the log of deployment/stoker-operator in namespace stoker-system"
        return [Line("unknown", "registry", "the operator has not tried yet whether nodes can pull from it", fix)]
    states = {OK: "ok", FAILS: "fails"}
    return [
        Line(states.get(one.state, "unknown"), "registry", f"{one.registry}: {one.reason}: {one.message}", one.fix)
        for one in outcomes
    ]


def _storage_of_the_chart(cluster: "Cluster", here: str) -> Line:
    """Of a namespace without a Workspace: whether stoker's server reads its store, by asking for a run that never was."""
    from stoker.sdk.wayin import ServerError

    try:
        cluster.server().job(_NO_RUN)
    except ServerError as error:
        if error.status != 404:
            return Line("fails", "storage", str(error), f"see storage in the chart's values, and {here}")
    detail = f"stoker's server reads the store that the chart's values give namespace {cluster.namespace}"
    return Line("ok", "storage", detail, f"to have its promises tried, make a Workspace named default, or {here}")


def _storage(cluster: "Cluster") -> Line:
    from stoker.kube.resources import WORKSPACES
    from stoker.sdk.kube import Refused

    here = "try the store from here: stoker doctor --storage URL"
    try:
        workspace: dict[str, Any] = cluster.kube.get(WORKSPACES.path(cluster.namespace, "default"))
    except Refused as error:
        if error.status != 404:
            raise
        return _storage_of_the_chart(cluster, here)
    conditions = (workspace.get("status") or {}).get("conditions") or ()
    found = next((one for one in conditions if one["type"] == _PREFLIGHT), None)
    generation = workspace["metadata"].get("generation", 0)
    if found is None or found.get("observedGeneration", 0) < generation:
        detail = "the operator has not tried the store of these settings yet"
        ready = next((one for one in conditions if one["type"] == "Ready" and one["status"] == "False"), None)
        detail = f"{detail}: {ready.get('message', '')}" if ready else detail
        return Line("unknown", "storage", detail, f"see whether the operator runs, or {here}")
    state = {"True": "ok", "False": "fails"}.get(found["status"], "unknown")
    message = f"{found['reason']}: {found.get('message', '')}"
    return Line(state, "storage", message, "" if state == "ok" else here)
