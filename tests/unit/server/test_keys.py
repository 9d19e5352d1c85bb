"""The key that signs grants: made once, shared by replicas, changed without a stop."""

import base64

import pytest

from stoker.kube.errors import NotFound, Unavailable
from stoker.server.errors import Refusal
from stoker.server.grants import Grant, Keys, sign
from stoker.server.keys import SECRET, BadKey, KeyRing
from tests.support.serving import SYSTEM, FakeKube

PATH = f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}"
NEW = b"n" * 32


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def grant_under(keys: Keys) -> str:
    return sign(Grant(1, "team", "s3://b/x", "iris-0123abcd", 1, 0, "u", 9_000), keys)


def held(**keys: bytes) -> dict:
    return {"metadata": {"name": SECRET}, "data": {name: base64.b64encode(key).decode() for name, key in keys.items()}}


async def test_two_replicas_that_start_together_share_one_key() -> None:
    kube = FakeKube()

    class Late(FakeKube):
        """Looked before the other one wrote."""

        looked = False

        async def get(self, path, shape=dict, **query):
            if not self.looked:
                self.looked = True
                raise NotFound("not yet")
            return await super().get(path, shape)

    first = await KeyRing(kube, SYSTEM).keys()
    late = Late()
    late.objects = kube.objects

    assert first == await KeyRing(late, SYSTEM).keys()


async def test_a_key_that_was_changed_is_read_when_a_grant_shows_it() -> None:
    kube, clock = FakeKube(), Clock()
    ring = KeyRing(kube, SYSTEM, clock)
    old = (await ring.keys()).current
    kube.objects[PATH] = held(current=NEW, previous=old)
    clock.now = 6.0

    assert 1 == (await ring.verify(grant_under(Keys(NEW)), 1_000)).attempt
    assert 1 == (await ring.verify(grant_under(Keys(old)), 1_000)).attempt


async def test_strangers_do_not_make_us_ask_the_api_server() -> None:
    kube, clock = FakeKube(), Clock()
    ring = KeyRing(kube, SYSTEM, clock)
    await ring.keys()
    kube.away = AssertionError("asked again")  # type: ignore[assignment]

    for _ in range(3):
        with pytest.raises(Refusal):
            await ring.verify(grant_under(Keys(NEW)), 1_000)


async def test_a_key_in_hand_serves_while_the_api_server_is_away() -> None:
    kube, clock = FakeKube(), Clock()
    ring = KeyRing(kube, SYSTEM, clock)
    keys = await ring.keys()
    kube.away, clock.now = Unavailable("down"), 3_600.0

    assert keys == await ring.keys()


@pytest.mark.parametrize("data", [{}, {"current": "!"}, {"current": base64.b64encode(b"short").decode()}])
async def test_a_secret_without_a_good_key_says_how_to_mend_it(data: dict) -> None:
    kube = FakeKube()
    kube.objects[PATH] = {"metadata": {"name": SECRET}, "data": data}

    with pytest.raises(BadKey, match=r"data\.current"):
        await KeyRing(kube, SYSTEM).keys()
