"""A real registry is cleaned: what goes, what stays, and what happens when something changes, or is refused, meanwhile."""

import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stoker.core.environment.cleaning import DAY, Verdict
from stoker.core.environment.keys import short
from stoker.core.environment.lock import Lock
from stoker.core.environment.needed import Plain
from stoker.core.environment.request import BuildRequest
from stoker.errors import StokerError
from stoker.images import client as client_module
from stoker.images.build import record
from stoker.images.cleaning import Cleaned, Cleaning
from stoker.images.client import INDEX_TYPES, MANIFEST_TYPES, RegistryClient, digest_of, fallback_tag
from stoker.images.connections import Connections
from stoker.images.errors import DeletionDisabled, PushDenied, RegistryUnreachable
from stoker.images.packagestore import ARTIFACT_TYPE
from stoker.storage import layout, uses
from stoker.storage.objects import ObjectStore, open_store
from tests.support.environments import PLATFORM
from tests.support.registries import RunningRegistry, registry

CONFIG = b"{}"
LOCK = Lock(platform=PLATFORM, python="", prefix="/opt/stoker/env", layer_format="1", packages=())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
async def client(running: RunningRegistry) -> AsyncIterator[RegistryClient]:
    sockets = Connections(user_agent="test", insecure=frozenset({running.address}))
    yield RegistryClient(sockets, running.keyring)
    await sockets.close()


def key(word: str) -> str:
    return digest_of(word.encode()).removeprefix("sha256:")


class Ground:
    """A registry's place of its own with what builds leave there, the namespace's store, and what its API server lists."""

    def __init__(self, client: RegistryClient, url: str, folder: Path) -> None:
        self.client, self.url, self.folder = client, url, folder
        self.store: ObjectStore = open_store(folder.as_uri())
        self.objects: dict[str, list[Plain]] = {}
        self.asked = 0

    async def read(self) -> Mapping[str, Sequence[Plain]]:
        self.asked += 1
        return self.objects

    def cleaning(self, **more: Any) -> Cleaning:
        stores = {"team": self.store, **more.pop("others", {})}
        return Cleaning(self.client, self.url, self.read, stores, **{"grace": 30 * DAY, **more})

    async def clean(self, **more: Any) -> Cleaned:
        cleaning = self.cleaning(**more)
        look = await cleaning.look()
        plan = await cleaning.plan(look)
        assert "" == plan.held
        await cleaning.mark(plan)
        return await cleaning.remove(look, plan, lambda verdict, why: None)

    async def image(self, name: str, *layers: str, tag: str = "lock") -> str:
        """An image of layers with SBOM and provenance, as a build leaves it; its digest."""
        place = f"{self.url}/environments"
        blobs = [layer.encode() for layer in layers]
        for blob in (config := json.dumps({"name": name}).encode(), *blobs):
            await self.client.push_blob(place, digest_of(blob), len(blob), blob)
        content = _manifest(config, blobs)
        digest = digest_of(content)
        if tag == "lock":
            papers = {record.SBOM_TYPE: name.encode(), record.PROVENANCE_TYPE: name.encode() * 2}
            await record.put_papers(self.client, place, record.Made(key(name), digest, 1), len(content), papers)
        await self.client.put_manifest(place, f"{tag}-{short(key(name))}", content, MANIFEST_TYPES[0])
        return digest

    async def record(self, name: str, image: str) -> None:
        request = BuildRequest(
            spec_key=key(f"spec {name}"), definition_key=key(f"definition {name}"), steps_key=key("steps"),
            platform=PLATFORM, base="base", prefix="/opt/stoker/env", registry=self.url,
        )  # fmt: skip
        made = record.Made(key(name), image, 1)
        await record.put_record(self.client, request, LOCK, made, f"{self.url}/environments")

    async def package(self, name: str, layer: str) -> None:
        place = f"{self.url}/packages"
        for blob in (CONFIG, layer.encode()):
            await self.client.push_blob(place, digest_of(blob), len(blob), blob)
        content = _manifest(CONFIG, [layer.encode()], artifactType=ARTIFACT_TYPE)
        await self.client.put_manifest(place, f"pkg-{short(key(name))}", content, MANIFEST_TYPES[0])

    async def used(self, *digests: str, days: float) -> None:
        await uses.note_all(self.store, digests, "a test")
        at = time.time() - days * DAY
        for digest in digests:
            os.utime(self.folder / layout.used(digest), (at, at))

    async def tags(self) -> dict[str, set[str]]:
        return {
            one: {tag.partition("-")[0] for tag in await self.client.tags(f"{self.url}/{one}") or ()}
            for one in ("environments", "packages")
        }

    async def has(self, digest: str) -> bool:
        return await self.client.head_manifest(f"{self.url}/environments", digest) is not None


@pytest.fixture
def ground(client: RegistryClient, running: RunningRegistry, tmp_path: Path) -> Ground:
    (tmp_path / "store").mkdir()
    return Ground(client, f"{running.address}/{tmp_path.name.replace('_', '-').lower()}", tmp_path / "store")


def _manifest(config: bytes, layers: Sequence[bytes], **more: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2, "mediaType": MANIFEST_TYPES[0],
            "config": {"mediaType": "application/json", "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": "a/b", "digest": digest_of(one), "size": len(one)} for one in layers], **more,
        }
    ).encode()  # fmt: skip


def job(name: str, digest: str) -> Plain:
    metadata = {"namespace": "team", "name": name}
    return {"metadata": metadata, "spec": {}, "status": {"environment": {"image": f"r/environments@{digest}"}}}


async def papers_of(ground: Ground, digest: str) -> list[str]:
    return [one["digest"] for one in await ground.client.referrers(f"{ground.url}/environments", digest)]


async def test_an_unused_image_goes_with_its_record_papers_and_packages_and_a_used_one_stays_whole(
    ground: Ground,
) -> None:
    unused, used = await ground.image("unused", "base", "old"), await ground.image("used", "base", "new")
    await ground.record("unused", unused)
    await ground.record("used", used)
    for name, layer in (("old", "old"), ("new", "new")):
        await ground.package(name, layer)
    await ground.image("steps", "base", tag="steps")
    papers = await papers_of(ground, unused)
    await ground.used(unused, used, days=40)
    ground.objects = {"TrainingJob": [job("iris", used)]}

    done = await ground.clean()

    assert 2 == len(papers)
    assert {"image", "papers", "package"} == {one.kind for one in done.removed}
    assert [False] * 3 == [await ground.has(digest) for digest in (unused, *papers)]
    assert [True] * 3 == [await ground.has(digest) for digest in (used, *await papers_of(ground, used))]
    tags = await ground.client.tags(f"{ground.url}/environments")
    assert {f"lock-{short(key('used'))}", f"spec-{short(key('spec used'))}", f"steps-{short(key('steps'))}",
            fallback_tag(used)} == set(tags or ())  # fmt: skip
    assert [f"pkg-{short(key('new'))}"] == await ground.client.tags(f"{ground.url}/packages")
    assert not (ground.folder / layout.used(unused)).exists()
    again = await ground.clean()
    assert ((), ()) == (again.removed, again.stays)


async def test_what_a_stored_run_names_stays(ground: Ground) -> None:
    digest = await ground.image("kept")
    await ground.used(digest, days=400)
    await ground.store.put(layout.job_record("iris-0123abcd"), json.dumps({"image": f"r@{digest}"}).encode())

    assert () == (await ground.clean()).removed
    await ground.store.delete([layout.job_record("iris-0123abcd")])
    assert [(digest,)] == [one.digests for one in (await ground.clean()).removed if one.kind == "image"]


async def test_an_image_of_unknown_use_goes_a_grace_after_it_was_first_looked_at(ground: Ground) -> None:
    digest = await ground.image("strange")

    assert () == (await ground.clean()).removed
    assert () == (await ground.clean(clock=lambda: time.time() + 29 * DAY)).removed
    await ground.clean(clock=lambda: time.time() + 31 * DAY)
    assert not await ground.has(digest)


async def test_a_job_that_starts_between_plan_and_deletion_keeps_its_image(ground: Ground) -> None:
    first, second = sorted([await ground.image("a", "layer a"), await ground.image("b", "layer b")])
    await ground.used(first, second, days=40)
    cleaning = ground.cleaning()
    look = await cleaning.look()
    plan = await cleaning.plan(look)
    told: list[tuple[str, str]] = []

    def saying(verdict: Verdict, why: str) -> None:
        told.append((verdict.digests[0], why))
        ground.objects = {"TrainingJob": [job("late", second)]}

    done = await cleaning.remove(look, plan, saying)

    assert {first, second} == {digest for one in plan.going if one.kind == "image" for digest in one.digests}
    assert [False, True] == [await ground.has(first), await ground.has(second)]
    assert (second, "TrainingJob team/late names it") in told
    assert "image" in {one.kind for one, _ in done.stays}
    assert 2 == len(await papers_of(ground, second)), "and its papers"


async def test_a_build_that_begins_between_plan_and_deletion_ends_it(ground: Ground) -> None:
    digest = await ground.image("a")
    await ground.used(digest, days=40)
    cleaning = ground.cleaning()
    look = await cleaning.look()
    plan = await cleaning.plan(look)
    labels = {"stoker.dev/environment-build": "x"}
    ground.objects = {"Job": [{"metadata": {"namespace": "team", "name": "build", "labels": labels}}]}

    done = await cleaning.remove(look, plan, lambda verdict, why: None)

    assert ("Job team/build builds an image; what is used is known once that is over", ()) == (done.held, done.removed)
    assert await ground.has(digest)


async def test_what_cannot_be_read_before_a_deletion_ends_it(ground: Ground) -> None:
    digest = await ground.image("a")
    await ground.used(digest, days=40)
    cleaning = ground.cleaning()
    look = await cleaning.look()
    plan = await cleaning.plan(look)

    async def refuse() -> Mapping[str, Sequence[Plain]]:
        raise StokerError("no")

    cleaning._objects = refuse
    with pytest.raises(StokerError):
        await cleaning.remove(look, plan, lambda verdict, why: None)
    assert await ground.has(digest)


async def test_needs_are_read_anew_before_each_image(ground: Ground) -> None:
    digests = [await ground.image(str(number)) for number in range(3)]
    await ground.used(*digests, days=40)

    await ground.clean()

    assert ground.asked >= 1 + 3 * 2, "before anything of an image goes, and before the image itself"


async def test_a_record_that_cannot_be_read_removes_nothing(ground: Ground) -> None:
    digest = await ground.image("a")
    await ground.used(digest, days=40)
    await ground.store.put(layout.job_record("iris-0123abcd"), b"{")

    with pytest.raises(StokerError, match="iris-0123abcd"):
        await ground.clean()
    assert await ground.has(digest)


async def test_a_tag_that_somebody_set_keeps_the_digest(ground: Ground) -> None:
    digest = await ground.image("a")
    await ground.used(digest, days=40)
    found = await ground.client.get_manifest(f"{ground.url}/environments", digest)
    assert found is not None
    await ground.client.put_manifest(f"{ground.url}/environments", "prod", found.content, MANIFEST_TYPES[0])

    assert () == (await ground.clean()).removed


async def test_the_images_of_a_tagged_index_stay(ground: Ground) -> None:
    digest = await ground.image("a")
    await ground.used(digest, days=40)
    entry = {"mediaType": MANIFEST_TYPES[0], "digest": digest, "size": 1}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [entry]}).encode()
    await ground.client.put_manifest(f"{ground.url}/environments", "multi", index, INDEX_TYPES[0])

    assert () == (await ground.clean()).removed


async def test_uses_in_the_store_of_a_namespace_that_shares_the_registry_count(ground: Ground, tmp_path: Path) -> None:
    digest = await ground.image("a")
    await ground.used(digest, days=40)
    (tmp_path / "other").mkdir()
    other = open_store((tmp_path / "other").as_uri())
    await uses.note(other, digest, "its job")

    assert () == (await ground.clean(others={"other": other})).removed
    await other.delete([layout.used(digest)])
    await other.put(layout.job_record("iris-0123abcd"), json.dumps({"image": f"r@{digest}"}).encode())
    assert () == (await ground.clean(others={"other": other})).removed
    assert () != (await ground.clean()).removed


async def test_a_removal_that_was_cut_off_goes_on(ground: Ground) -> None:
    digest = await ground.image("a", "layer")
    await ground.record("a", digest)
    await ground.package("layer", "layer")
    await ground.used(digest, days=40)
    cleaning = ground.cleaning()
    look = await cleaning.look()
    plan = await cleaning.plan(look)
    deleted: list[str] = []

    class Cut(RegistryClient):
        async def delete_manifest(self, place: str, target: str) -> bool:
            if len(deleted) == 2:
                raise RegistryUnreachable("gone", 0.0)
            deleted.append(target)
            return await ground.client.delete_manifest(place, target)

    cleaning._client = Cut(ground.client._connections)
    with pytest.raises(RegistryUnreachable):
        await cleaning.remove(look, plan, lambda verdict, why: None)
    await ground.clean()

    assert {"environments": set(), "packages": set()} == await ground.tags()


# -- registries that refuse


async def _answering(status: int, text: str) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_route("DELETE", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"127.0.0.1:{runner.addresses[0][1]}"


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (405, json.dumps({"errors": [{"code": "UNSUPPORTED"}]}), DeletionDisabled),
        (400, json.dumps({"errors": [{"code": "UNSUPPORTED"}]}), DeletionDisabled),
        (403, "", PushDenied),
        (403, json.dumps({"errors": [{"code": "UNSUPPORTED"}]}), PushDenied),
    ],
)
async def test_a_registry_that_does_not_delete_says_why(status: int, text: str, error: type[Exception]) -> None:
    runner, address = await _answering(status, text)
    sockets = Connections(user_agent="test", insecure=frozenset({address}))
    try:
        with pytest.raises(error) as caught:
            await client_module.RegistryClient(sockets).delete_manifest(f"{address}/a", digest_of(b"x"))
        assert caught.value.fix  # type: ignore[attr-defined]
    finally:
        await sockets.close()
        await runner.cleanup()


async def test_a_real_registry_with_deletion_disabled_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with registry(tmp_path, deletes=False) as found:
        sockets = Connections(user_agent="test", insecure=frozenset({found.address}))
        try:
            ground = Ground(RegistryClient(sockets), f"{found.address}/team", tmp_path / "store")
            digest = await ground.image("a")
            await ground.used(digest, days=40)
            with pytest.raises(DeletionDisabled, match="does not delete") as caught:
                await ground.clean()
            assert "REGISTRY_STORAGE_DELETE_ENABLED" in caught.value.fix
            assert await ground.has(digest)
        finally:
            await sockets.close()
