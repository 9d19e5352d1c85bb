"""What others have on nodes that jobs share: summed over their pods, and looked at again in time."""

from typing import Any

import msgspec

from stoker.controller.neighbours import LOOK_SECONDS, NEW_LOOK_SECONDS, NEW_SECONDS, Neighbours
from stoker.kube.client import KubeClient


def pod(cpu: str, memory: str, **labels: str) -> dict[str, Any]:
    requests = {"requests": {"cpu": cpu, "memory": memory}}
    return {"metadata": {"name": "x", "labels": labels}, "spec": {"containers": [{"name": "c", "resources": requests}]}}


class Page(msgspec.Struct):
    items: list[Any]


class Pods(KubeClient):
    """Pods by node; asked: whose were listed. Everything else of a client is left alone."""

    def __init__(self, **nodes: list[dict[str, Any]]) -> None:
        self.nodes, self.asked = nodes, list[str]()

    async def list(self, path: str, shape: Any = Any, *, field_selector: str = "", **_: Any) -> Any:
        assert path == "/api/v1/pods"
        node = field_selector.partition(",")[0].removeprefix("spec.nodeName=")
        self.asked.append(node)
        return Page(msgspec.convert(self.nodes[node], list[shape]))


async def test_pods_of_attempts_are_left_out_and_the_rest_is_summed() -> None:
    mine = {"stoker.dev/job-uid": "u", "stoker.dev/attempt": "1"}
    pods = Pods(a=[pod("100m", "64Mi"), pod("250m", "1Gi"), pod("3", "9Gi", **mine)], b=[])

    seen = await Neighbours(pods, lambda: 0.0).on(["a", "b"])

    assert seen == {"a": (("cpu", "350m"), ("memory", "1088Mi"), ("pods", "2")), "b": ()}


async def test_a_new_node_is_looked_at_again_soon_and_an_old_one_now_and_then() -> None:
    pods, now = Pods(a=[]), [0.0]
    neighbours = Neighbours(pods, lambda: now[0])
    counts = []
    for moment in (
        0,
        NEW_LOOK_SECONDS - 1,
        NEW_LOOK_SECONDS,
        NEW_SECONDS + 1,
        NEW_SECONDS + LOOK_SECONDS - 1,
        NEW_SECONDS + LOOK_SECONDS + 2,
    ):
        now[0] = moment
        await neighbours.on(["a"])
        counts.append(len(pods.asked))

    assert counts == [1, 1, 2, 3, 3, 4]


async def test_a_node_that_went_and_came_is_a_new_one() -> None:
    pods = Pods(a=[])
    neighbours = Neighbours(pods, lambda: 0.0)
    await neighbours.on(["a"])
    neighbours.keep([])
    await neighbours.on(["a"])

    assert pods.asked == ["a", "a"]
