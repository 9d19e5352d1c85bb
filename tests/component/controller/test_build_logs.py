"""Logs of builds are kept: the newest one's where it is looked for, and each try's for good."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.controller.environment_oracle import EnvironmentOracle
from stoker.core.plan import Answer, BuildLog, Found, Refused
from stoker.kube.errors import NotFound
from stoker.storage import buildlogs, layout
from stoker.storage.objects import ObjectStore, open_store

KEY = "a" * 64
FIRST, SECOND = "2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path.as_uri())


class Kubelets:
    """What the pods have printed by now."""

    def __init__(self) -> None:
        self.printed: dict[str, bytes] = {}

    async def pod_log(self, namespace: str, pod: str, container: str, **_: Any) -> bytes:
        if pod not in self.printed:
            raise NotFound(f"pod {pod} not found", status=404)
        return self.printed[pod]


async def copy(
    store: ObjectStore, kubelets: Kubelets, pod: str, moment: str, began: str, newest: bool = True
) -> Answer:
    workspaces = SimpleNamespace(open=lambda namespace: store)
    oracle = EnvironmentOracle(cast(Any, workspaces), cast(Any, kubelets), cast(Any, None), cast(Any, None))
    return await oracle.ways[BuildLog](BuildLog("team", KEY, pod, moment, began, newest))


async def kept(store: ObjectStore) -> list[tuple[str, bytes | None]]:
    return [(one.began, await store.get(one.key)) for one in await buildlogs.tries(store, KEY)]


async def test_the_next_try_takes_nothing_from_the_one_before(store: ObjectStore) -> None:
    kubelets = Kubelets()
    kubelets.printed["one"] = b"no"
    await copy(store, kubelets, "one", "7", FIRST)
    assert [("", b"no")] == await kept(store)
    kubelets.printed["one"] = b"no route"
    await copy(store, kubelets, "one", "end", FIRST)
    assert [(FIRST, b"no route")] == await kept(store)

    kubelets.printed["two"] = b"solve"
    await copy(store, kubelets, "two", "9", SECOND)

    assert [(FIRST, b"no route"), ("", b"solve")] == await kept(store)
    assert Found(5) == await copy(store, kubelets, "two", "end", SECOND)
    assert [(FIRST, b"no route"), (SECOND, b"solve")] == await kept(store)
    assert b"solve" == await store.get(layout.build_log(KEY))


async def test_a_try_that_another_one_has_followed_is_not_taken_for_the_newest(store: ObjectStore) -> None:
    kubelets = Kubelets()
    kubelets.printed |= {"one": b"no route", "two": b"solve"}
    await copy(store, kubelets, "two", "9", SECOND)

    await copy(store, kubelets, "one", "end", FIRST, newest=False)

    assert b"solve" == await store.get(layout.build_log(KEY))
    assert [(FIRST, b"no route"), ("", b"solve")] == await kept(store)


async def test_the_log_of_a_pod_that_has_gone_stays_as_it_was_copied(store: ObjectStore) -> None:
    kubelets = Kubelets()
    kubelets.printed["one"] = b"no route"
    await copy(store, kubelets, "one", "7", FIRST)
    kubelets.printed.clear()

    answer = await copy(store, kubelets, "one", "end", FIRST)

    assert isinstance(answer, Refused)
    assert "PodGone" == answer.reason
    assert b"no route" == await store.get(layout.build_log(KEY))
