"""Which pool `compute: serverless` comes to, and what is said of the others."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.api.computecluster import ComputeCluster
from stoker.api.trainingjob import TrainingJob
from stoker.core import serverless, trainingjob
from stoker.core.plan import Create
from stoker.core.serverless import Choice, choose
from tests.support import build

CPU = {"cpu": "4", "memory": "16Gi"}
GPU = {**CPU, "nvidia.com/gpu": "1"}


def kind(name: str = "m", price: str | None = "1.00", **more: Any) -> dict[str, Any]:
    return {"name": name, "resources": CPU, **({"pricePerHour": price} if price else {}), **more}


def pool(name: str, *kinds: dict[str, Any], **spec: Any) -> ComputeCluster:
    return build.cluster(name, instanceTypes=list(kinds) or [kind()], **spec)


def asking(nodes: int = 1, pod: dict[str, Any] | None = None, **resources: Any) -> TrainingJob:
    command: dict[str, Any] = {"resources": {"instanceCount": nodes, **resources}}
    return build.job(compute="serverless", command=command | ({"pod": pod} if pod else {}))


def chosen(job: TrainingJob, *pools: ComputeCluster, platforms: tuple[str, ...] = ()) -> Choice:
    assert job.spec.command is not None
    return choose(job.spec.command, build.NAMESPACE, pools, platforms)


def test_the_cheapest_that_fits_is_chosen_and_the_others_are_told_why_not() -> None:
    found = chosen(
        asking(nodes=2),
        pool("dear", kind(price="3.00")),
        pool("cheap", kind(price="0.50")),
        pool("one", kind(price="0.10"), most=1),
    )

    assert (found.compute, found.instance_type) == ("cheap", "m")
    assert found.message == "cheap with type m, 1.00 an hour: the cheapest of 2 of 3 pools that fit"
    assert found.rejected == {
        "dear": "costs 6.00 an hour",
        "one": "it may have 1 nodes and the job needs 2",
    }


def test_the_cheapest_type_of_a_pool_counts() -> None:
    found = chosen(asking(), pool("a", kind("large", "4.00"), kind("small", "0.40")), pool("b", kind(price="1.00")))

    assert (found.compute, found.instance_type) == ("a", "small")


def test_a_type_without_a_price_counts_as_free_as_everywhere() -> None:
    found = chosen(asking(), pool("paid", kind(price="0.01")), pool("own", kind(price=None)))

    assert (found.compute, "without a price" in found.message) == ("own", True)


@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        (pool("x", allowedNamespaces={"matchNames": ["other"]}), "namespace team may not use it"),
        (pool("x", paused=True), "it is paused"),
        (pool("x", kind(tier="Spot")), "type m is Spot, which nobody asked for"),
        (pool("x", kind(resources=GPU)), "type m has nvidia.com/gpu, which nobody asked for"),
        (pool("x", kind(architecture="arm64")), "type m is arm64, not amd64"),
        (pool("x", kind(resources={"cpu": "1", "memory": "16Gi"})), "type m offers less than the pods ask for: cpu 1 of 1050m"),
        (
            pool("x", kind(), kind("s", tier="Spot"), fallback={"toTier": "Spot"}),
            "type m may become s, which is Spot, which nobody asked for, type s is Spot, which nobody asked for",
        ),
    ],
    ids=["namespace", "paused", "spot", "gpu", "architecture", "too-small", "may-become-spot"],
)  # fmt: skip
def test_what_does_not_fit_is_told_and_never_taken_even_if_it_is_the_only_one(unfit: ComputeCluster, why: str) -> None:
    found = chosen(asking(requests={"cpu": "1"}), unfit)

    assert (found.compute, found.rejected) == ("", {"x": why})
    assert found.why_none() == f"x: {why}"


def test_who_asks_for_a_gpu_gets_the_cheapest_that_has_one() -> None:
    pools = (
        pool("cpu", kind(price="0.10")),
        pool("big", kind(resources=GPU, price="9")),
        pool("gpu", kind(resources=GPU, price="3")),
    )

    found = chosen(asking(requests={"cpu": "1", "nvidia.com/gpu": "1"}), *pools)

    assert found.compute == "gpu"
    assert found.rejected["cpu"] == "type m offers less than the pods ask for: nvidia.com/gpu 0 of 1"


def test_who_names_a_type_asks_for_what_it_is() -> None:
    spot = kind("g", "0.30", tier="Spot", resources=GPU)

    found = chosen(asking(instanceType="g"), pool("cpu"), pool("gpu", spot))

    assert (found.compute, found.instance_type, found.rejected) == ("gpu", "g", {"cpu": "type m is not g"})


@pytest.mark.parametrize(
    ("platforms", "pod", "expected"),
    [
        ((), None, "amd"),
        (("linux/arm64",), None, "arm"),
        (("linux/amd64", "linux/arm64"), None, "arm"),
        (("linux/amd64", "linux/arm64"), {"nodeSelector": {"kubernetes.io/arch": "amd64"}}, "amd"),
    ],
    ids=["unsaid", "arm-only", "both", "selected"],
)
def test_the_architecture_is_the_environments(
    platforms: tuple[str, ...], pod: dict[str, Any] | None, expected: str
) -> None:
    pools = (pool("amd", kind(price="1")), pool("arm", kind(price="0.5", architecture="arm64")))

    assert chosen(asking(pod=pod), *pools, platforms=platforms).compute == expected


def test_root_is_only_where_it_is_allowed() -> None:
    root = {"securityContext": {"runAsUser": 0}}
    pools = (pool("cheap", kind(price="0.1")), pool("rooted", allowRootPods=True))

    assert chosen(asking(pod=root), *pools).compute == "rooted"


def test_on_a_shared_pool_what_daemons_need_is_left_free() -> None:
    job = asking(requests={"cpu": "3900m"})

    assert chosen(job, pool("whole")).compute == "whole"
    found = chosen(job, pool("shared", sharing="Requests"))
    assert found.rejected == {"shared": "type m offers less than the pods ask for: cpu 3800m of 3950m"}


def test_many_pools_are_counted_and_not_all_named() -> None:
    pools = [pool(f"p{number:03}", paused=True) for number in range(300)]

    words = chosen(asking(), *pools).why_none()

    assert words.endswith("p011: it is paused; and 288 more")


PRICES = st.sampled_from([None, "0.1", "0.5", "0.50", "2", "10"])
KINDS = st.builds(
    kind, st.sampled_from(["a", "b"]), PRICES, tier=st.sampled_from(["Dedicated", "Spot"]),
    resources=st.sampled_from([CPU, GPU, {"cpu": "1", "memory": "2Gi"}]), architecture=st.sampled_from(["amd64", "arm64"]),
)  # fmt: skip
POOLS = st.lists(
    st.builds(
        lambda name, kinds, most, sharing, fallback: pool(
            name, *{one["name"]: one for one in kinds}.values(), most=most, sharing=sharing, provider="Kwok",
            **({"fallback": {"toTier": "Spot"}} if fallback and any(one["tier"] == "Spot" for one in kinds) else {}),
        ),
        st.sampled_from("wxyz"), st.lists(KINDS, min_size=1, max_size=2), st.integers(0, 3),
        st.sampled_from(["WholeNode", "Requests"]), st.booleans(),
    ),
    max_size=4, unique_by=lambda one: one.metadata.name,
)  # fmt: skip


@given(POOLS, st.sampled_from([{}, {"cpu": "2"}, {"cpu": "4"}, {"nvidia.com/gpu": "1"}]), st.integers(1, 3))
def test_every_pool_is_chosen_or_told_why_not_and_never_one_that_nobody_asked_for(
    pools: list[ComputeCluster], requests: dict[str, str], nodes: int
) -> None:
    found = chosen(asking(nodes, requests=requests), *pools)

    assert {one.metadata.name for one in pools} == {*found.rejected, *([found.compute] if found.compute else [])}
    assert all(found.rejected.values())
    assert found == chosen(asking(nodes, requests=requests), *reversed(pools)), (
        "the order in which they come means nothing"
    )
    if not found.compute:
        return
    (cluster,) = (one for one in pools if one.metadata.name == found.compute)
    (taken,) = (one for one in cluster.spec.instance_types if one.name == found.instance_type)
    assert (taken.tier, taken.architecture) == ("Dedicated", "amd64")
    assert ("nvidia.com/gpu" in taken.resources) == ("nvidia.com/gpu" in requests)
    assert nodes <= cluster.spec.max_instances


# -- A job whose pool was chosen.


def settled(job: TrainingJob, *pools: ComputeCluster, begun: str = "") -> str:
    return serverless.settled(job, pools, begun=begun).compute


def told(compute: str, **more: Any) -> TrainingJob:
    """A job whose status names the pool that was chosen."""
    status = {"compute": compute, "computeChoice": {"instanceType": "m", "message": "it was"}, **more}
    plain = asking()
    return msgspec.structs.replace(plain, status=build.job(status=status).status)


def test_a_choice_stays_though_another_pool_is_cheaper_by_now() -> None:
    cheap, dear = pool("cheap", kind(price="0.1")), pool("dear", kind(price="5"))

    assert settled(told("dear"), cheap, dear) == "dear"
    assert settled(asking(), cheap, dear, begun="dear") == "dear"


def test_a_job_that_has_not_begun_goes_elsewhere_when_its_pool_is_closed_or_gone() -> None:
    other = pool("other")

    assert settled(told("gone"), other) == "other"
    assert settled(told("dear"), pool("dear", paused=True), other) == "other"
    assert settled(told("dear"), pool("dear", paused=True), other, begun="dear") == "dear"


def test_a_run_that_has_begun_says_why_it_is_where_it_is_before_its_status_does() -> None:
    cheap, dear = pool("cheap", kind(price="0.1")), pool("dear", kind(price="5"))

    same = serverless.settled(asking(), (cheap, dear), begun="cheap")
    other = serverless.settled(asking(), (cheap, dear), begun="dear")

    assert same == chosen(asking(), cheap, dear)
    assert (other.compute, other.instance_type) == ("dear", "m")
    assert other.message == "dear was chosen when the run was recorded"
    assert other.rejected == {"cheap": "it would be chosen by now, and the run stays where it is"}


def test_while_it_waits_the_other_pools_are_told_with_the_choice_that_stands() -> None:
    waiting = serverless.settled(told("a"), (pool("a"), pool("b", paused=True)), begun="a")
    running = serverless.settled(told("a", phase="Running"), (pool("a"), pool("b", paused=True)), begun="a")

    assert (waiting.message, waiting.rejected) == ("it was", {"b": "it is paused"})
    assert (running.message, running.rejected) == ("it was", {})


def test_one_that_has_begun_stays_with_its_pool_though_that_is_gone() -> None:
    seen = build.view(told("gone"), without_cluster=True, choice=serverless.settled(told("gone"), (), begun="gone"))

    waiting = trainingjob.why(seen, build.T0 + 1)
    assert waiting is not None
    assert (waiting.reason, 'no ComputeCluster named "gone"' in waiting.message) == ("ComputeNotFound", True)


def test_the_status_and_the_demand_name_what_was_chosen() -> None:
    cluster = pool("a", kind("large", "4.00"), kind("small", "0.40", resources={"cpu": "2", "memory": "8Gi"}))
    choice = chosen(asking(), cluster)
    seen = build.view(asking(), on=cluster, choice=choice)

    wanted, shown = trainingjob.demand(seen, build.T0), trainingjob.plan(seen, build.T0 + 30).status
    assert wanted is not None
    assert wanted.instance_type == "small"
    assert shown is not None
    assert shown.compute_choice is not None
    assert (shown.compute, shown.compute_choice.instance_type) == ("a", "small")
    assert shown.compute_choice.message == "a with type small, 0.40 an hour: the only pool there is"


def test_the_pods_ask_for_the_whole_of_the_type_that_was_chosen() -> None:
    cluster = pool("a", kind("large", "4.00"), kind("small", "0.40", resources={"cpu": "2", "memory": "8Gi"}))
    seen = build.view(asking(), on=cluster, choice=chosen(asking(), cluster), placed=["n0"])

    made = [one.manifest for one in trainingjob.plan(seen, build.T0 + 1).actions if isinstance(one, Create)]
    (main,) = made[-1]["spec"]["template"]["spec"]["containers"]
    assert main["resources"]["requests"]["cpu"] == "1750m"


def test_the_plan_that_is_shown_names_each_pool_that_was_not_taken() -> None:
    from stoker.cli.explained import lines
    from stoker.core.trainingjob.explain import explain

    pools = (pool("cheap", kind(price="0.5")), pool("dear", kind(price="3")))
    seen = build.view(asking(), on=pools[0], choice=chosen(asking(), *pools))
    plan = trainingjob.plan(seen, build.T0 + 1)

    text = "\n".join(lines(explain(seen, plan, None, build.T0 + 1)))
    assert "serverless: cheap with type m, 0.50 an hour" in text
    assert "serverless: not dear: costs 3.00 an hour" in text
