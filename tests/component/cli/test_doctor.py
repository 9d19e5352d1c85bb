"""`stoker doctor` as a process: a store of this machine, and an API server that the test plays with Stoker's real server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stoker.core.registrycheck import Outcome, encode
from tests.support.apiserver import ApiServer, api_server
from tests.support.cli import Cli
from tests.support.loose_store import ACCESS_KEY, SECRET_KEY, LooseStore, loose
from tests.support.serving import Served, serving

KINDS = ("trainingjobs", "environments", "computeclusters", "workspaces")
GROUP = "/apis/stoker.dev/v1alpha1"
WORKSPACE = f"{GROUP}/namespaces/team/workspaces/default"
REGISTRIES = "/api/v1/namespaces/stoker-system/configmaps/stoker-registry-check"


PULLED = Outcome("r.example.com/ml", "Ok", "Pulled", "node n1 pulled a test image", node="n1")
BROKEN = Outcome("127.0.0.1:5035/stoker", "Fails", "NodesCannotConnect", "connection refused", "see the proxy", "n1")


@dataclass
class World:
    cli: Cli
    api: ApiServer
    served: Served

    def states(self, code: int = 0) -> dict[str, str]:
        return {one["what"]: one["state"] for one in self.cli.json("doctor", code=code)["checks"]}

    def line(self, what: str, code: int) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.cli.json("doctor", code=code)["checks"] if one["what"] == what)
        return found

    def registries(self, *outcomes: Outcome) -> None:
        self.api.objects[REGISTRIES] = {"data": {"checks": encode(outcomes)}}

    def preflight(self, status: str, reason: str, generation: int = 1) -> None:
        condition = {
            "type": "StoragePreflight", "status": status, "reason": reason, "message": "signed-length does not hold",
            "observedGeneration": 1,
        }  # fmt: skip
        self.api.objects[WORKSPACE] = {"metadata": {"generation": generation}, "status": {"conditions": [condition]}}


@pytest.fixture
def world(cli: Cli, tmp_path: Path) -> Iterator[World]:
    with api_server(tmp_path) as (api, kubeconfig), serving(Served(tmp_path / "stores")) as served:
        served.kube.account("people", "team", "stoker-editor")
        cli.env = {"KUBECONFIG": str(kubeconfig), "STOKER_SERVER": served.url}
        api.objects["/version"] = {"major": "1", "minor": "30+", "gitVersion": "v1.30.1"}
        api.objects[GROUP] = {"resources": [{"name": kind} for kind in KINDS]}
        world = World(cli, api, served)
        world.preflight("True", "AllHold")
        world.registries(PULLED)
        yield world


def at(cli: Cli, store: LooseStore) -> None:
    cli.env = {"AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


# -- A cluster.


def test_a_cluster_in_which_all_holds(world: World) -> None:
    done = world.cli("doctor")

    assert ["STATE", "ok", "ok", "ok", "ok", "ok", "ok"] == [line.split()[0] for line in done.stdout.splitlines()]
    assert "Kubernetes v1.30.1" in done.stdout
    assert "namespace team" in done.stderr
    assert "team" == world.cli.json("doctor")["namespace"]


def test_each_registry_that_nodes_cannot_pull_from_fails_with_cause_and_fix(world: World) -> None:
    world.registries(PULLED, BROKEN)

    lines = [one for one in world.cli.json("doctor", code=1)["checks"] if one["what"] == "registry"]

    assert ["ok", "fails"] == [one["state"] for one in lines]
    assert "127.0.0.1:5035/stoker: NodesCannotConnect: connection refused" == lines[1]["detail"]
    assert "see the proxy" == lines[1]["fix"]


def test_a_registry_that_was_not_tried_yet_is_unknown(world: World) -> None:
    world.registries()
    assert "not tried yet" in world.line("registry", 125)["detail"]

    del world.api.objects[REGISTRIES]
    assert "none is configured" in world.line("registry", 0)["detail"]


def test_an_old_cluster_fails_and_says_what_it_needs(world: World) -> None:
    world.api.objects["/version"]["minor"] = "29"

    line = world.line("API server", 1)
    assert ("fails", "upgrade the cluster") == (line["state"], line["fix"])
    assert "1.30 or later" in line["detail"]


@pytest.mark.parametrize("served", [KINDS[:3], ()])
def test_kinds_that_are_not_served_are_named(world: World, served: tuple[str, ...]) -> None:
    if served:
        world.api.objects[GROUP] = {"resources": [{"name": kind} for kind in served]}
    else:
        del world.api.objects[GROUP]

    line = world.line("kinds", 1)
    assert "fails" == line["state"]
    assert "workspaces" in line["detail"]
    assert "crds.install=true" in line["fix"]


def test_a_namespace_that_gives_no_token_fails_and_the_way_in_stays_untold(world: World) -> None:
    world.cli.env["STOKER_SERVER"] = "http://127.0.0.1:9"
    world.api.refuse_token = 403

    assert {"token": "fails", "way in": "unknown"}.items() <= world.states(1).items()


def test_a_server_that_does_not_answer_fails(world: World) -> None:
    world.cli.env["STOKER_SERVER"] = "http://127.0.0.1:9"

    assert {"token": "ok", "way in": "fails"}.items() <= world.states(1).items()


@pytest.mark.parametrize(
    ("status", "reason", "state", "code"),
    [
        ("True", "AllHold", "ok", 0),
        ("False", "PromisesMissing", "fails", 1),
        ("False", "StorageUnreachable", "fails", 1),
        ("Unknown", "InternalError", "unknown", 125),
    ],
)
def test_the_store_is_as_the_operator_found_it(world: World, status: str, reason: str, state: str, code: int) -> None:
    world.preflight(status, reason)

    line = world.line("storage", code)
    assert state == line["state"]
    assert f"{reason}: signed-length does not hold" == line["detail"]


def test_what_was_found_for_other_settings_does_not_count(world: World) -> None:
    world.preflight("True", "AllHold", generation=2)

    assert "unknown" == world.states(125)["storage"]


def test_a_namespace_without_a_workspace_has_the_charts_store_read_by_the_server(world: World) -> None:
    """It once was `unknown`, so that an ordinary installation ended with 125."""
    del world.api.objects[WORKSPACE]

    line = world.line("storage", 0)
    assert "ok" == line["state"]
    assert "namespace team" in line["detail"]
    assert "stoker doctor --storage URL" in line["fix"]


def test_a_chart_store_that_the_server_cannot_read_fails(world: World) -> None:
    del world.api.objects[WORKSPACE]
    place = Path(world.served.store().url.removeprefix("file://"), "jobs/none-00000000")
    place.mkdir(parents=True)
    (place / "job.json").write_text("{")

    assert "fails" == world.line("storage", 1)["state"]


def test_an_api_server_that_is_away_is_one_line_and_125(cli: Cli, tmp_path: Path) -> None:
    with api_server(tmp_path) as (_, kubeconfig):
        cli.env = {"KUBECONFIG": str(kubeconfig)}

    assert ["API server"] == [one["what"] for one in cli.json("doctor", code=125)["checks"]]


def test_no_cluster_at_all_is_125(cli: Cli) -> None:
    assert "no kubeconfig" in cli("doctor", code=125).stderr


# -- A store, from here.


def test_a_store_that_keeps_all(cli: Cli) -> None:
    with loose() as store:
        at(cli, store)
        done = cli("doctor", "--storage", "s3://bucket/p")

        assert {} == store.objects
    lines = done.stdout.splitlines()
    assert ["STATE", *["ok"] * 13] == [line.split()[0] for line in lines]
    assert "conditional-put" in done.stderr
    assert "asked" not in done.stdout


def test_a_store_that_breaks_one_names_it_and_what_is_lost(cli: Cli) -> None:
    with loose("length") as store:
        at(cli, store)
        found = cli.json("doctor", "--storage", "s3://bucket/p", code=1)

        assert {} == store.objects
    assert ("s3://bucket/p", None) == (found["storage"], found["namespace"])
    (line,) = [one for one in found["checks"] if one["state"] != "ok"]
    assert ("fails", "signed-length") == (line["state"], line["what"])
    assert line["promise"] == line["fix"]
    assert {"state", "what", "detail", "fix", "promise"} == set(line)


def test_the_names_are_of_what_is_not_well(cli: Cli) -> None:
    with loose("list", "if-match") as store:
        at(cli, store)
        done = cli("doctor", "--storage", "s3://bucket/p", "-o", "name", code=1)

    assert ["list", "if-match"] == done.stdout.splitlines()


def test_a_store_that_is_away_could_not_be_checked(cli: Cli) -> None:
    cli.env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}
    found = cli.json("doctor", "--storage", "s3://bucket/p", code=125)

    assert ["unknown"] * len(found["checks"]) == [one["state"] for one in found["checks"]]
    assert "storage" == found["checks"][-1]["what"]


@pytest.mark.parametrize("storage", ["kept", "file:///{folder}/kept"])
def test_a_folder(cli: Cli, storage: str) -> None:
    found = cli.json("doctor", "--storage", storage.format(folder=str(cli.folder).lstrip("/")))

    assert ["ok", "ok", "ok"] == [one["state"] for one in found["checks"]]
    assert (cli.folder / "kept").as_uri() == found["storage"]


def test_a_url_that_names_no_store_is_bad_usage(cli: Cli) -> None:
    assert "gs://bucket" in cli("doctor", "--storage", "gs://bucket", code=2).stderr
