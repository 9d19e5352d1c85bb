"""What a pod that pulls a test image tells of its registry."""

import pytest

from stoker.api.kube import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    KubeCondition,
    ObjectMeta,
    Pod,
    PodSpec,
    PodStatus,
)
from stoker.core import registrycheck
from stoker.core.registrycheck import Outcome, judge

REGISTRY = "r.example.com/ml"
IMAGE = f"{REGISTRY}/stoker-selftest@sha256:{'401403eof' * 7}0"


def pod(state: ContainerState | None = None, *, node: str = "n1", conditions: tuple[KubeCondition, ...] = ()) -> Pod:
    statuses = () if state is None else (ContainerStatus(name="pull", state=state),)
    return Pod(
        metadata=ObjectMeta(name="check"),
        spec=PodSpec(node_name=node),
        status=PodStatus(container_statuses=statuses, conditions=conditions),
    )


def waiting(reason: str, message: str = "") -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))


def told(seen: Pod, *, waited: float = 1.0, own: bool = False) -> tuple[str, str] | None:
    outcome = judge(REGISTRY, seen, waited, own)
    return outcome and (outcome.state, outcome.reason)


@pytest.mark.parametrize(
    "state",
    [
        ContainerState(running=ContainerStateRunning()),
        ContainerState(terminated=ContainerStateTerminated(exit_code=0)),
        ContainerState(terminated=ContainerStateTerminated(exit_code=128, reason="StartError")),
        waiting("CreateContainerError", "whatever"),
        waiting("RunContainerError", "exec format error"),
        waiting("CreateContainerConfigError"),
    ],
)
def test_what_comes_after_the_pull_says_that_it_worked(state: ContainerState) -> None:
    assert ("Ok", "Pulled") == told(pod(state))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ('Head "https://r/v2/": http: server gave HTTP response to HTTPS client', "NodesExpectHttps"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "CertificateUnknown"),
        ("dial tcp: lookup r.example.com: no such host", "NameUnknownToNodes"),
        ("pull access denied, repository does not exist or may require authorization", "NodesUnauthorized"),
        ("unexpected status from HEAD request: 401 Unauthorized", "NodesUnauthorized"),
        ("failed to resolve reference: 403 Forbidden", "NodesUnauthorized"),
        ("dial tcp 127.0.0.1:5035: connect: connection refused", "NodesCannotConnect"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "NodesCannotConnect"),
        ('Get "http://r/v2/": EOF', "NodesCannotConnect"),
        (f"rpc error: code = NotFound desc = failed to pull {IMAGE}: not found", "AnotherRegistry"),
        (f"something new about {IMAGE}", "PullFailed"),
    ],
)
def test_each_cause_has_its_reason_and_a_fix(words: str, reason: str) -> None:
    outcome = judge(REGISTRY, pod(waiting("ErrImagePull", words)), 1.0, own=False)

    assert outcome is not None
    assert ("Fails", reason, "n1") == (outcome.state, outcome.reason, outcome.node)
    assert "node n1 cannot pull from r.example.com/ml" in outcome.message
    assert outcome.fix
    assert "{" not in outcome.fix


@pytest.mark.parametrize("words", ["connect: connection refused", "manifest unknown"])
def test_the_chart_s_own_registry_points_to_its_proxy(words: str) -> None:
    outcome = judge(REGISTRY, pod(waiting("ErrImagePull", words)), 1.0, own=True)

    assert outcome is not None
    assert "stoker-registry-proxy" in outcome.fix


def test_a_backoff_without_a_cause_keeps_the_cause_before_it() -> None:
    first = judge(REGISTRY, pod(waiting("ErrImagePull", "no such host")), 1.0, own=False)
    then = judge(REGISTRY, pod(waiting("ImagePullBackOff", 'Back-off pulling image "r"')), 1.0, own=False)
    done = judge(REGISTRY, pod(ContainerState(running=ContainerStateRunning())), 1.0, own=False)

    assert first is not None
    assert then is not None
    assert done is not None
    assert first == registrycheck.merged(first, then)
    assert then == registrycheck.merged(None, then)
    assert done == registrycheck.merged(first, done)


@pytest.mark.parametrize(
    ("seen", "waited", "expected"),
    [
        (pod(), 1.0, None),
        (pod(waiting("ContainerCreating")), 59.0, None),
        (pod(waiting("ContainerCreating")), 61.0, ("Unknown", "NotStarted")),
        (
            pod(node="", conditions=(KubeCondition(type="PodScheduled", status="False", message="0/0 nodes"),)),
            1.0,
            ("Unknown", "NoNode"),
        ),
        (pod(waiting("InvalidImageName", "couldn't parse")), 1.0, ("Fails", "InvalidImageName")),
    ],
)
def test_before_a_pull_nothing_is_claimed(seen: Pod, waited: float, expected: tuple[str, str] | None) -> None:
    assert expected == told(seen, waited=waited)


def test_long_words_are_cut() -> None:
    outcome = judge(REGISTRY, pod(waiting("ErrImagePull", "no such host " * 200)), 1.0, own=False)

    assert outcome is not None
    assert len(outcome.message) < 500


def test_outcomes_are_read_as_they_were_written() -> None:
    outcomes = (Outcome(REGISTRY, "Ok", "Pulled", "well", node="n1", checked_at="2026-01-01T00:00:00Z", settings="s"),)

    assert outcomes == registrycheck.decode(registrycheck.encode(outcomes))


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"registry": "r"}]', '{"a": 1}'])
def test_what_cannot_be_read_is_found_out_again(text: str) -> None:
    assert () == registrycheck.decode(text)


def test_only_a_good_outcome_with_the_same_settings_holds() -> None:
    def outcome(registry: str, state: str, settings: str) -> Outcome:
        return Outcome(registry, state, "r", "m", settings=settings)

    outcomes = (outcome("a", "Ok", "1"), outcome("b", "Ok", "1"), outcome("c", "Fails", "1"), outcome("d", "Ok", "1"))

    assert {"a"} == registrycheck.holds(outcomes, {"a": "1", "b": "2", "c": "1"})


def test_settings_tell_every_change_that_matters() -> None:
    first = registrycheck.settings_of("r", "", False, ("s",), "1")
    others = [
        registrycheck.settings_of("q", "", False, ("s",), "1"),
        registrycheck.settings_of("r", "a", False, ("s",), "1"),
        registrycheck.settings_of("r", "", True, ("s",), "1"),
        registrycheck.settings_of("r", "", False, (), "1"),
        registrycheck.settings_of("r", "", False, ("s",), "2"),
    ]

    assert first == registrycheck.settings_of("r", "", False, ("s",), "1")
    assert 6 == len({first, *others})


def test_the_pod_pulls_always_and_may_do_nothing_else() -> None:
    spec = registrycheck.pod(REGISTRY, IMAGE, ("pull",))["spec"]
    (container,) = spec["containers"]

    assert ("Always", "Never", False) == (
        container["imagePullPolicy"],
        spec["restartPolicy"],
        spec["automountServiceAccountToken"],
    )
    assert [{"name": "pull"}] == spec["imagePullSecrets"]
    assert (True, {"type": "RuntimeDefault"}) == (
        spec["securityContext"]["runAsNonRoot"],
        spec["securityContext"]["seccompProfile"],
    )
    assert {"drop": ["ALL"]} == container["securityContext"]["capabilities"]
