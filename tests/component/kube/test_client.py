"""What the client makes of each answer, over real HTTP."""

import time
from pathlib import Path
from typing import Any

import pytest

from stoker.api.kube import Pod
from stoker.kube.client import LONGEST_RETRY_AFTER_SECONDS, TRIES, KubeClient
from stoker.kube.errors import Conflict, Gone, KubeError, NotFound, Rejected, Unavailable
from tests.support.fake_api import FakeApi, Fault

PODS = "/api/v1/namespaces/n/pods"


def named(name: str, **members: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **members}


async def test_a_list_is_read_in_pages_and_whole(api: FakeApi) -> None:
    for number in range(5):
        await api.put(f"{PODS}/{number}")
    async with api.client() as client:
        listing = await client.list(PODS, Pod, limit=2)

    assert [str(number) for number in range(5)] == [pod.metadata.name for pod in listing.items]
    assert listing.resource_version == str(api.version)
    assert len(api.requests) == 3


async def test_a_list_that_outlives_its_token_is_begun_anew(api: FakeApi) -> None:
    for number in range(3):
        await api.put(f"{PODS}/{number}")
    async with api.client() as client:
        pages = client.pages(PODS, Pod, limit=1)
        await anext(pages)
        api.fail("GET", Fault(410, "Expired"))
        with pytest.raises(Gone):
            await anext(pages)
        assert len((await client.list(PODS, Pod, limit=1)).items) == 3


@pytest.mark.parametrize("fault", [Fault(500), Fault(503), Fault(429), Fault(504), Fault(0, cut=True)])
async def test_passing_troubles_are_tried_again(api: FakeApi, fault: Fault) -> None:
    await api.put(f"{PODS}/a")
    api.fail("GET", fault, fault)
    async with api.client() as client:
        assert (await client.get(f"{PODS}/a", Pod)).metadata.name == "a"


async def test_troubles_that_do_not_pass_are_told(api: FakeApi) -> None:
    api.fail("GET", *[Fault(503, "ServiceUnavailable", "etcd is away")] * TRIES)
    async with api.client() as client:
        with pytest.raises(Unavailable, match="etcd is away"):
            await client.get(f"{PODS}/a")

    assert len(api.requests) == TRIES


async def test_a_server_that_asks_to_wait_is_obeyed(api: FakeApi) -> None:
    await api.put(f"{PODS}/a")
    api.fail("GET", Fault(429, headers={"Retry-After": "1"}))
    started = time.monotonic()
    async with api.client() as client:
        await client.get(f"{PODS}/a")

    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("asked", ["nan", "inf", "-1", "86400", "Fri, 31 Dec 2027 23:59:59 GMT"])
async def test_no_wait_that_a_server_asks_for_is_without_bound(api: FakeApi, asked: str) -> None:
    api.fail("WATCH", Fault(429, headers={"Retry-After": asked}))
    async with api.client() as client:
        with pytest.raises(Unavailable) as told:
            await anext(client.watch(PODS, Pod, resource_version="1"))

    assert 0 <= told.value.retry_after <= LONGEST_RETRY_AFTER_SECONDS


@pytest.mark.parametrize("text", ["<html>a proxy's page</html>", "", '{"items": 7}'])
async def test_an_answer_that_cannot_be_read_is_a_passing_trouble(api: FakeApi, text: str) -> None:
    api.fail("GET", Fault(200, text=text))
    async with api.client() as client:
        with pytest.raises(Unavailable, match=f"GET {PODS}.*cannot be read"):
            await client.list(PODS, Pod)


@pytest.mark.parametrize("fault", [Fault(500), Fault(429), Fault(0, cut=True)])
async def test_a_burst_costs_no_write_its_effect(api: FakeApi, fault: Fault) -> None:
    api.fail("POST", *[fault] * (TRIES - 1))
    async with api.client() as client:
        await client.create(PODS, named("a"))

    assert list(api.objects) == [f"{PODS}/a"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (409, Conflict), (410, Gone), (400, Rejected), (403, Rejected), (422, Rejected)],
)
async def test_other_answers_are_final_and_typed(api: FakeApi, status: int, kind: type[KubeError]) -> None:
    api.fail("GET", Fault(status, "SomeReason", "the server's words"))
    async with api.client() as client:
        with pytest.raises(kind, match="the server's words") as told:
            await client.get(f"{PODS}/a")

    assert ("SomeReason", status, 1) == (told.value.reason, told.value.status, len(api.requests))


async def test_a_taken_name_is_told_apart_from_another_uid(api: FakeApi) -> None:
    await api.put(f"{PODS}/a")
    async with api.client() as client:
        with pytest.raises(Conflict) as taken:
            await client.create(PODS, named("a"))
        with pytest.raises(Conflict) as another:
            await client.delete(f"{PODS}/a", uid="not-it")

    assert (True, False) == (taken.value.name_taken, another.value.name_taken)
    assert f"{PODS}/a" in api.objects


async def test_a_delete_names_the_uid_and_takes_the_pods_along(api: FakeApi) -> None:
    made = await api.put(f"{PODS}/a")
    async with api.client() as client:
        await client.delete(f"{PODS}/a", uid=made["metadata"]["uid"])

    assert api.bodies[-1]["preconditions"] == {"uid": made["metadata"]["uid"]}
    assert api.bodies[-1]["propagationPolicy"] == "Background"
    assert api.objects == {}


async def test_a_status_is_applied_with_force_under_our_name(api: FakeApi) -> None:
    await api.put(f"{PODS}/a")
    async with api.client() as client:
        await client.apply_status(f"{PODS}/a", named("a", status={"phase": "Running"}))

    method, path, query = api.requests[-1]
    assert ("PATCH", f"{PODS}/a/status") == (method, path)
    assert query == {"fieldManager": "stoker", "force": "true"}
    assert api.objects[f"{PODS}/a"]["status"] == {"phase": "Running"}


async def test_a_status_does_not_bring_a_gone_object_back(api: FakeApi) -> None:
    async with api.client() as client:
        with pytest.raises(NotFound):
            await client.apply_status(f"{PODS}/a", named("a", status={}))


async def test_a_renewed_token_is_read_when_the_old_one_is_refused(api: FakeApi, tmp_path: Path) -> None:
    await api.put(f"{PODS}/a")
    token = tmp_path / "token"
    token.write_text("old")
    async with api.client(token_file=token) as client:
        await client.get(f"{PODS}/a")
        token.write_text("new")
        api.fail("GET", Fault(401, "Unauthorized"))
        await client.get(f"{PODS}/a")

        assert client.access.token == "new"


async def test_a_token_that_stays_refused_is_no_endless_loop(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("bad")
    api.fail("GET", *[Fault(401, "Unauthorized", "who are you")] * 5)
    async with api.client(token_file=tmp_path / "token") as client:
        with pytest.raises(Rejected, match="who are you"):
            await client.get(f"{PODS}/a")


async def test_a_token_review_says_whose_token_it_is(api: FakeApi) -> None:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    extra = {"authentication.kubernetes.io/pod-name": ["p"]}
    api.objects[path] = {
        "metadata": {},
        "status": {"authenticated": True, "audiences": ["stoker-run"], "user": {"username": "u", "extra": extra}},
    }
    async with api.client() as client:
        review = await client.review_token("secret", ["stoker-run"])

    assert review.authenticated
    assert review.user.extra == {"authentication.kubernetes.io/pod-name": ("p",)}


async def test_requests_are_told_to_the_observer(api: FakeApi) -> None:
    told: list[tuple[str, str, int]] = []
    client = KubeClient(
        api.client().access, user_agent="t", observe=lambda verb, resource, code, _: told.append((verb, resource, code))
    )
    async with client:
        await client.list(PODS)
        with pytest.raises(NotFound):
            await client.get("/apis/batch/v1/namespaces/n/jobs/j")

    assert told == [("GET", "pods", 200), ("GET", "jobs", 404)]


async def test_a_watch_brings_objects_larger_than_a_line_buffer(api: FakeApi) -> None:
    async with api.client() as client:
        await api.put(f"{PODS}/big", metadata={"annotations": {"a": "x" * 300_000}})
        events = client.watch(PODS, Pod, resource_version="100")
        event = await anext(events)
        await events.aclose()

    assert ("ADDED", 300_000) == (event.type, len(event.object.metadata.annotations["a"]) if event.object else 0)
