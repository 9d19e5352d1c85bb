"""Who gets a grant, and what for: the walk from the token over pod and Job to the TrainingJob."""

from collections.abc import Callable

import pytest

from stoker.kube.errors import Unavailable
from stoker.server.keys import SECRET
from tests.component.server.conftest import keep
from tests.support.serving import JOB_UID, SYSTEM, FakeKube, Served, job_record

CHILD = f"/apis/batch/v1/namespaces/team/jobs/iris-{JOB_UID[:8]}-1"
TRAINING_JOB = "/apis/stoker.dev/v1alpha1/namespaces/team/trainingjobs/iris"


def test_a_pod_of_a_job_gets_the_grant_of_its_rank(served: Served) -> None:
    answer = served.grant()

    assert (200, 1, 0) == (answer.status, answer.json["attempt"], answer.json["rank"])
    assert job_record() == answer.json["job"]
    assert answer.json["expiresSeconds"] > 3600


def test_the_second_rank_of_the_third_attempt_is_told_apart(served: Served) -> None:
    keep(served, job_record(instanceCount=2))
    served.kube.run(attempt=3, ranks=2, rank=1, token="other")

    answer = served.grant("other")

    assert (3, 1) == (answer.json["attempt"], answer.json["rank"])


def test_the_pod_that_saves_the_remains_of_a_rank_has_that_ranks_grant(served: Served) -> None:
    keep(served, job_record(instanceCount=2))
    served.kube.run(attempt=3, salvages=1, token="salvage")

    answer = served.grant("salvage")

    assert (200, 3, 1) == (answer.status, answer.json["attempt"], answer.json["rank"])


def test_there_is_no_grant_for_a_rank_that_the_job_does_not_have(served: Served) -> None:
    served.kube.run(salvages=1, token="salvage")

    answer = served.grant("salvage")

    assert (403, "NotARank") == (answer.status, answer.reason)


@pytest.mark.parametrize("name", ["s0", "-s00", "-s0-1", "-0", "-s-1"])
def test_a_name_that_is_no_salvage_of_ours_gets_nothing(served: Served, name: str) -> None:
    served.kube.run()
    served.kube.objects[CHILD]["metadata"].update(name=f"iris-{JOB_UID[:8]}-1{name}")

    assert 403 == served.grant().status


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(lambda kube, pod: pod.update(uid="another"), id="the pod was made anew"),
        pytest.param(lambda kube, pod: pod.update(ownerReferences=[]), id="no owner"),
        pytest.param(lambda kube, pod: pod["ownerReferences"][0].update(controller=False), id="owner is no controller"),
        pytest.param(lambda kube, pod: pod["ownerReferences"][0].update(uid="guessed"), id="uid of the Job is guessed"),
        pytest.param(
            lambda kube, pod: pod["ownerReferences"][0].update(apiVersion="evil.io/v1"), id="another group's Job"
        ),
        pytest.param(lambda kube, pod: pod["ownerReferences"][0].update(kind="ReplicaSet"), id="another kind"),
        pytest.param(
            lambda kube, pod: pod["labels"].update({"batch.kubernetes.io/controller-uid": "x"}), id="not counted"
        ),
        pytest.param(lambda kube, pod: pod.update(finalizers=[]), id="not tracked by the Job controller"),
        pytest.param(
            lambda kube, pod: pod["labels"].update({"batch.kubernetes.io/job-completion-index": "1"}),
            id="rank beyond the Job",
        ),
        pytest.param(
            lambda kube, pod: pod["labels"].update({"batch.kubernetes.io/job-completion-index": "00"}),
            id="rank is no number",
        ),
        pytest.param(lambda kube, pod: pod.update(name="mine"), id="name is not the Job controller's"),
        pytest.param(lambda kube, pod: kube.objects.pop(CHILD), id="the Job is gone"),
        pytest.param(lambda kube, pod: kube.objects.pop(TRAINING_JOB), id="the TrainingJob is gone"),
        pytest.param(
            lambda kube, pod: kube.objects[TRAINING_JOB]["metadata"].update(uid="0123abcd-9"),
            id="the TrainingJob was made anew",
        ),
        pytest.param(
            lambda kube, pod: kube.objects[CHILD]["metadata"].update(name="iris-0123abcd-01"),
            id="not the name of a child",
        ),
        pytest.param(
            lambda kube, pod: kube.objects[CHILD]["metadata"]["ownerReferences"][0].update(apiVersion="evil.dev/v1"),
            id="another group's TrainingJob",
        ),
    ],
)
def test_what_does_not_fit_gets_nothing(served: Served, forged: Callable[[FakeKube, dict], None]) -> None:
    path = served.kube.run()
    forged(served.kube, served.kube.objects[path]["metadata"])

    answer = served.grant()

    assert (403, "NotARank") == (answer.status, answer.reason)


def test_owner_references_do_not_reach_into_another_namespace(served: Served) -> None:
    """A pod of namespace `evil` names team's Job and TrainingJob by their true names and uids, in every detail."""
    path = served.kube.run()
    pod = served.kube.objects[path]["metadata"]
    served.kube.add(f"/api/v1/namespaces/evil/pods/{pod['name']}", **{**pod, "namespace": "evil", "uid": "evil-pod"})
    served.kube.account("evil-token", "evil", "default", "stoker-run", pod_name=pod["name"], pod_uid="evil-pod")

    assert 403 == served.grant("evil-token").status


def test_a_copy_of_the_whole_chain_in_another_namespace_has_that_namespaces_storage(served: Served) -> None:
    served.kube.run("evil", token="evil-token")

    answer = served.grant("evil-token")

    assert (404, "RecordMissing") == (answer.status, answer.reason)
    assert "stoker/evil" not in str(served.store("team").url)


def test_a_record_of_another_job_under_the_same_key_is_not_this_jobs(served: Served) -> None:
    keep(served, job_record() | {"uid": "0123abcd-9999-4222-8333-444455556666"})

    assert 403 == served.grant().status


@pytest.mark.parametrize("audience", ["stoker", "https://kubernetes.default.svc"])
def test_a_token_for_someone_else_is_refused(served: Served, audience: str) -> None:
    served.kube.account("t", "team", "default", audience, pod_name="p", pod_uid="u")

    assert 401 == served.grant("t").status


@pytest.mark.parametrize("token", ["", "unknown", "x" * 20_000])
def test_no_good_token_no_grant(served: Served, token: str) -> None:
    assert 401 == served.grant(token).status


def test_a_token_that_is_bound_to_no_pod_is_refused(served: Served) -> None:
    served.kube.account("t", "team", "default", "stoker-run")

    assert 403 == served.grant("t").status


def test_a_token_is_reviewed_once_in_a_while(served: Served) -> None:
    for _ in range(3):
        served.granted()

    assert 1 == served.kube.reviews


def test_a_sealed_rank_gets_no_grant(served: Served) -> None:
    grant = served.granted()
    served.call("POST", "/v1/seal", {"grant": grant, "exit": None, "files": []})

    answer = served.grant()

    assert (409, "Sealed") == (answer.status, answer.reason)


def test_a_protocol_that_is_not_spoken_is_named(served: Served) -> None:
    answer = served.call("POST", "/v1/grant", {"protocol": 99}, "pod-token")

    assert (400, "ProtocolUnknown") == (answer.status, answer.reason)


def test_the_grant_outlives_job_and_pod(served: Served) -> None:
    grant = served.granted()
    served.kube.objects = {path: body for path, body in served.kube.objects.items() if SECRET in path}
    served.kube.tokens.clear()

    assert 200 == served.send(grant, "outputs/model.bin", b"model").status


def test_while_the_api_server_is_away_pods_are_told_to_come_back(served: Served) -> None:
    grant = served.granted()
    served.kube.tokens.clear()
    served.kube.away = Unavailable("connection refused")

    answer = served.grant("new-token")

    assert (503, "ApiServerUnavailable") == (answer.status, answer.reason)
    assert int(answer.headers["retry-after"]) > 0
    assert 200 == served.send(grant, "logs/std_log.txt", b"goes on\n").status


def test_a_namespace_that_is_not_served_gets_no_grant(tmp_path, served: Served) -> None:
    object.__setattr__(served.settings, "job_namespaces", frozenset({"other"}))

    assert (403, "NamespaceNotServed") == ((answer := served.grant()).status, answer.reason)


def test_the_first_start_makes_the_key_and_the_next_one_uses_it(served: Served) -> None:
    served.granted()

    secret = served.kube.objects[f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}"]

    assert ["current"] == list(secret["data"])
