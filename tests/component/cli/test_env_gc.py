"""`stoker env gc` against a real registry: what is shown, asked, removed, and refused."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stoker.core.environment.cleaning import DAY
from stoker.storage import layout, uses
from tests.component.images.test_cleaning import Ground
from tests.support.apiserver import JOBS, ApiServer, api_server
from tests.support.cli import Cli
from tests.support.environments import with_client
from tests.support.registries import RunningRegistry, registry

T = TypeVar("T")
GROUP = "/apis/stoker.dev/v1alpha1"
WORKSPACE = f"{GROUP}/namespaces/team/workspaces/default"
PUBLIC = "/api/v1/namespaces/stoker-system/configmaps/stoker-public"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@dataclass
class World:
    """A namespace with a registry of its own in which one image is used and one is not."""

    cli: Cli
    api: ApiServer
    running: RunningRegistry
    url: str
    folder: Path
    used: str = ""
    unused: str = ""

    def do(self, work: Callable[[Ground], Awaitable[T]]) -> T:
        return with_client(self.running, lambda client: work(Ground(client, self.url, self.folder)))

    def workspace(self, namespace: str = "team", **spec: Any) -> None:
        path = WORKSPACE.replace("/team/", f"/{namespace}/")
        self.api.put(path, {"metadata": {"namespace": namespace, "name": "default"}, "spec": spec})

    def has(self, digest: str) -> bool:
        return self.do(lambda ground: ground.has(digest))

    def gc(self, *more: str, code: int = 0) -> Any:
        return self.cli("env", "gc", "--storage", self.folder.as_uri(), *more, code=code)

    def json(self, *more: str) -> Any:
        return json.loads(self.gc("-o", "json", *more).stdout)


@pytest.fixture
def world(cli: Cli, tmp_path: Path, running: RunningRegistry) -> Iterator[World]:
    folder = tmp_path / "store"
    folder.mkdir()
    url = f"{running.address}/{tmp_path.name.replace('_', '-').lower()}"
    with api_server(tmp_path) as (api, kubeconfig):
        cli.env = {"KUBECONFIG": str(kubeconfig)}
        made = World(cli, api, running, url, folder)
        made.workspace(registry={"url": url, "insecure": True})

        async def push(ground: Ground) -> tuple[str, str]:
            used, unused = await ground.image("used", "base", "new"), await ground.image("unused", "base", "old")
            await ground.record("unused", unused)
            await ground.used(used, unused, days=40)
            return used, unused

        made.used, made.unused = made.do(push)
        status = {"phase": "Completed", "environment": {"image": f"{url}/environments@{made.used}"}}
        api.put(f"{JOBS}/iris", {"metadata": {"namespace": "team", "name": "iris"}, "spec": {}, "status": status})
        # The list comes in pages, and only the last has the job that uses the image.
        api.put(f"{JOBS}/a", {"metadata": {"namespace": "team", "name": "a"}, "spec": {"suspend": True}, "status": {}})
        yield made


def test_a_dry_run_lists_what_goes_and_stays_and_why_and_removes_nothing(world: World) -> None:
    out = world.gc("--dry-run").stdout

    rows = {line.split()[0]: line for line in out.splitlines() if world.used[:19] in line or world.unused[:19] in line}
    assert "nothing names it; last used 40.0 days ago" in rows["remove"]
    assert "TrainingJob team/iris names it" in rows["keep"]
    assert {"lock-", "spec-"} <= {word[:5] for word in rows["remove"].replace(",", " ").split()}
    used_on = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 40 * DAY))
    assert all(used_on in row for row in rows.values())
    assert "1 image, 1 list of papers to remove" in out
    assert world.has(world.unused)


def test_what_is_not_needed_goes_with_a_yes_and_a_second_run_finds_nothing(world: World) -> None:
    refused = world.gc(code=2)
    assert "add -y to say yes" in refused.stderr
    assert world.has(world.unused)

    value = world.json("-y")

    gone = {digest for one in value["manifests"] if one["remove"] for digest in one["digests"]}
    assert (True, 30, "") == (value["removed"], value["unusedDays"], value["held"])
    assert world.unused in gone
    assert world.used not in gone
    assert [False, True] == [world.has(world.unused), world.has(world.used)]
    assert [2] == [len(one["papers"]) for one in value["manifests"] if one["kind"] == "image" and one["remove"]]
    again = world.json("-y")
    assert [] == [one for one in again["manifests"] if one["remove"]]
    assert "" == world.gc("-o", "name", "-y").stdout


def test_the_workspace_says_how_long_unused_images_stay_and_the_flag_says_it_better(world: World) -> None:
    world.workspace(registry={"url": world.url, "insecure": True}, retention={"environmentDays": 50})

    assert [50, []] == [
        (value := world.json("--dry-run"))["unusedDays"],
        [x for x in value["manifests"] if x["remove"]],
    ]
    assert 39 == world.json("--dry-run", "--unused-days", "39")["unusedDays"]
    assert any(one["remove"] for one in world.json("--dry-run", "--unused-days", "39")["manifests"])


def test_without_a_workspace_the_chart_says_where_things_are(world: World) -> None:
    world.api.put(WORKSPACE, {}, "DELETED")
    data = {
        "registryUrl": world.url.rpartition("/")[0], "storageUrl": "s3://nowhere", "globalRegistries": "[]",
        "insecureRegistries": world.running.address,
    }  # fmt: skip
    namespace = world.url.rpartition("/")[2]
    world.api.put(PUBLIC, {"metadata": {"name": "stoker-public"}, "data": data})

    assert world.url == world.json("--dry-run", "-n", namespace)["registry"]
    data["globalRegistries"] = json.dumps([{"url": world.url}])
    world.api.put(PUBLIC, {"metadata": {"name": "stoker-public"}, "data": data})
    assert "every namespace may run its images" in world.gc("-y", "-n", namespace, code=125).stderr


def test_nobody_says_which_registry(world: World) -> None:
    world.workspace()

    assert "--registry HOST/PATH" in world.gc("--dry-run", code=2).stderr


@pytest.mark.parametrize("kind", ["workspaces", "pods"])
def test_what_may_not_be_listed_removes_nothing_and_says_why(world: World, kind: str) -> None:
    group = {"pods": "/api/v1", "jobs": "/apis/batch/v1"}.get(kind, GROUP)
    world.api.forbidden.add(f"{group}/{kind}")

    failed = world.gc("-y", code=125)

    assert "nothing is removed" in failed.stderr
    assert f"you may not read {group}/{kind}" in failed.stderr
    assert world.has(world.unused)


def test_an_image_that_another_namespace_names_stays(world: World) -> None:
    environment = {
        "metadata": {"namespace": "other", "name": "torch", "generation": 1}, "spec": {},
        "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}],
                   "images": [{"digest": world.unused}]},
    }  # fmt: skip
    world.api.put(f"{GROUP}/namespaces/other/environments/torch", environment)

    world.gc("-y")

    assert world.has(world.unused)


def test_runs_of_a_namespace_that_shares_the_registry_count_or_nothing_goes(world: World, tmp_path: Path) -> None:
    world.workspace("other", globalRegistries=[{"url": world.url}])
    failed = world.gc("-y", code=125).stderr
    assert f"namespace other uses {world.url} too, and where its runs are stored is not known" in failed

    store = tmp_path / "other"
    path = store / layout.job_record("iris-0123abcd")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"image": world.unused}))
    world.workspace("other", globalRegistries=[{"url": world.url}], storage={"url": store.as_uri()})
    world.gc("-y")
    assert world.has(world.unused)

    path.unlink()
    world.gc("-y")
    assert not world.has(world.unused)


def test_nothing_goes_while_a_job_has_not_said_its_image(world: World) -> None:
    world.api.put(f"{JOBS}/new", {"metadata": {"namespace": "team", "name": "new"}, "spec": {}, "status": {}})

    done = world.gc("-y")

    assert "nothing is removed: TrainingJob team/new has not said yet which image it uses" in done.stderr
    assert world.has(world.unused)


def test_an_unknown_last_use_is_counted_from_the_first_run(world: World) -> None:
    digest = world.do(lambda ground: ground.image("strange", "x"))

    assert "not known" in next(line for line in world.gc("--dry-run").stdout.splitlines() if digest[:19] in line)
    world.gc("-y")

    noted = asyncio.run(uses.last_uses(world.do(_store)))
    assert abs(time.time() - noted[digest.removeprefix("sha256:")]) < 60
    assert world.has(digest)


async def _store(ground: Ground) -> Any:
    return ground.store


def test_a_registry_that_does_not_delete_is_told_with_the_fix(world: World, tmp_path: Path) -> None:
    (tmp_path / "fixed").mkdir()
    with registry(tmp_path / "fixed", deletes=False) as fixed:
        there = World(world.cli, world.api, fixed, f"{fixed.address}/team", world.folder)
        there.workspace(registry={"url": there.url, "insecure": True})
        digest = there.do(lambda ground: ground.image("unused"))
        there.do(lambda ground: ground.used(digest, days=40))

        failed = there.gc("-y", code=125)

        assert "the registry does not delete" in failed.stderr
        assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in failed.stderr


def test_a_registry_is_reached_at_another_address(world: World) -> None:
    world.workspace(registry={"url": "registry.example.com/" + world.url.partition("/")[2], "insecure": True})

    value = world.json("--dry-run", "--address", world.running.address)

    assert {"keep": 1, "remove": 1} == {
        word: sum(one["kind"] == "image" and one["remove"] == (word == "remove") for one in value["manifests"])
        for word in ("keep", "remove")
    }
