"""What became of a build's pod, from what the kubelet and the Job controller say of its end."""

from typing import Any

import pytest
from msgspec.structs import replace

from stoker.core.environment import builds
from stoker.core.environment.builds import Build
from stoker.core.environment.request import BuildResult
from tests.support import build_envs as env

OVER_LIMIT = "Pod ephemeral local storage usage exceeds the total limit of containers 50Mi. "
NODE_LOW = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. "


def result(*, job: Any = None, evicted: str = "", **members: Any) -> BuildResult:
    tried = env.job_of("x", **(job or {}))
    pod = env.pod_of(tried, **members)
    if evicted:
        status = replace(pod.status, phase="Failed", reason="Evicted", message=evicted)
        pod = replace(pod, status=status)
    (made,) = builds.tries(Build((tried,), (pod,)))
    assert made.result is not None
    return made.result


@pytest.mark.parametrize(
    ("message", "reason", "transient"),
    [
        (OVER_LIMIT, "DiskFull", False),
        ('Container build exceeded its local ephemeral storage limit "50Mi". ', "DiskFull", False),
        ('Usage of EmptyDir volume "work" exceeds the limit "50Mi". ', "DiskFull", False),
        (NODE_LOW, "DiskFull", True),
        ("The node was low on resource: memory. ", "Evicted", True),
    ],
)
def test_an_eviction_is_the_builds_own_or_the_nodes_affair(message: str, reason: str, transient: bool) -> None:
    said = result(evicted=message)

    assert (reason, message.strip(), transient) == (said.reason, said.message, said.transient)


def test_a_full_node_has_a_fix_of_its_own() -> None:
    assert "request ephemeral-storage" in result(evicted=NODE_LOW).fix
    assert "" == result(evicted=OVER_LIMIT).fix


LEFT_UNDONE = BuildResult(reason="SourceOnlyPackage", message="big 1.0: its build failed", where="pip[0]")
OWN_WORDS = BuildResult(reason="OutOfMemory", message="the build of big 1.0 was killed")


@pytest.mark.parametrize(
    ("said", "code", "kubelet", "expected"),
    [
        (None, 137, "Error", ("OutOfMemory", "")),
        (None, 137, "OOMKilled", ("OutOfMemory", "")),
        # The kernel has ended a child alone: what the builder says of it is not why.
        (LEFT_UNDONE, 1, "OOMKilled", ("OutOfMemory", "pip[0]")),
        (LEFT_UNDONE, 1, "Error", ("SourceOnlyPackage", "pip[0]")),
        (OWN_WORDS, 1, "OOMKilled", ("OutOfMemory", "")),
        (BuildResult(image=env.BUILT), 0, "OOMKilled", ("", "")),
        (None, 3, "Error", ("BuildFailed", "")),
    ],
)
def test_memory_is_the_reason_where_the_kubelet_says_so(
    said: BuildResult | None, code: int, kubelet: str, expected: tuple[str, str]
) -> None:
    found = result(result=said, code=code, reason=kubelet)

    assert expected == (found.reason, found.where)
    assert said is None or said.message in found.message


def test_a_try_that_ran_out_of_time_is_told_so_though_its_pod_says_that_it_was_ended() -> None:
    ended = BuildResult(reason="Cancelled", message="the builder was asked to end", transient=True)

    assert (
        "Timeout" == result(job={"ended": "FailureTarget", "reason": "DeadlineExceeded"}, result=ended, code=2).reason
    )
