"""`stoker why --plan` before a real API server: its TokenReview says who asks, its SubjectAccessReview whether they may."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.apiserver.controller.conftest import Cluster, Operator, until

pytestmark = pytest.mark.lab


@pytest.fixture
def people(cluster: Cluster, namespace: str) -> str:
    """A namespace with two ServiceAccounts: `alice` may get TrainingJobs, `mallory` may not."""
    rbac = "rbac.authorization.k8s.io"
    role = {"apiGroups": ["stoker.dev"], "resources": ["trainingjobs"], "verbs": ["get"]}
    cluster.apply(
        account(namespace, "alice"),
        account(namespace, "mallory"),
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": named(namespace, "reads"), "rules": [role]},
        binding(namespace, "alice", {"kind": "ServiceAccount", "name": "alice", "namespace": namespace}),
    )
    return namespace


def named(namespace: str, name: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace}


def account(namespace: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named(namespace, name)}


def binding(namespace: str, name: str, subject: dict[str, str]) -> dict[str, Any]:
    """Gives a subject the role `reads` of the namespace."""
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": named(namespace, name), "subjects": [subject],
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "reads"},
    }  # fmt: skip


def token(cluster: Cluster, namespace: str, name: str, audience: str = "stoker") -> str:
    return cluster.lab.kubectl("create", "token", name, "-n", namespace, f"--audience={audience}").strip()


def ask(operator: Operator, namespace: str, token: str) -> tuple[int, Any]:
    url = f"{operator.url}/v1/namespaces/{namespace}/trainingjobs/wide/plan"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_plan_is_for_those_who_may_get_the_job(cluster: Cluster, operator: Operator, people: str) -> None:
    cluster.job(people, "wide", command={"resources": {"instanceCount": 9}})
    alice = token(cluster, people, "alice")
    until("the operator knows the job", lambda: ask(operator, people, alice)[0] == 200, 20)
    status, told = ask(operator, people, alice)

    assert (200, "wide", "GangLargerThanPool") == (status, told["name"], told["waiting"]["reason"])
    assert "4" in told["waiting"]["message"]
    assert (403, "Forbidden") == (
        (no := ask(operator, people, token(cluster, people, "mallory")))[0],
        no[1]["error"]["reason"],
    )
    # Of another namespace she may get nothing, and a token for another audience is nobody's here.
    assert 403 == ask(operator, "default", alice)[0]
    assert 401 == ask(operator, people, token(cluster, people, "alice", "vault"))[0]


def test_the_accounts_of_the_way_in_need_the_charts_binding(cluster: Cluster, operator: Operator, people: str) -> None:
    cluster.job(people, "wide", command={"resources": {"instanceCount": 9}})
    accounts = ("get", "serviceaccount", "stoker-viewer", "-n", people, "--ignore-not-found", "-o", "name")
    until("the operator has made the accounts", lambda: cluster.lab.kubectl(*accounts).strip(), 20)
    viewer = token(cluster, people, "stoker-viewer")
    before = ask(operator, people, viewer)[0]
    cluster.apply(
        binding(people, "people", {"kind": "Group", "name": "stoker:people", "apiGroup": "rbac.authorization.k8s.io"})
    )
    until("they may", lambda: ask(operator, people, viewer)[0] == 200, 20)

    # They themselves have no rights all the same: without the group, which no token carries, the answer is no.
    asked = {"namespace": people, "group": "stoker.dev", "resource": "trainingjobs", "verb": "get"}
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": f"system:serviceaccount:{people}:stoker-viewer", "resourceAttributes": asked},
    }  # fmt: skip
    answered = json.loads(cluster.lab.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review)))
    assert (403, False) == (before, answered["status"]["allowed"])


def test_a_standby_says_who_leads(
    cluster: Cluster, operator: Operator, people: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    until("it leads", lambda: operator.leads)
    standby = Operator(cluster, tmp_path_factory.mktemp("standby"))
    standby.start()
    try:
        until("it has looked at the Lease", lambda: "nobody" not in ask(standby, people, "x")[1]["error"]["message"])
        status, told = ask(standby, people, token(cluster, people, "alice"))
    finally:
        standby.end()
    holder = cluster.get("lease", "stoker-operator", "-n", "stoker-system")["spec"]["holderIdentity"]

    assert (503, "NotLeading", True) == (status, told["error"]["reason"], holder in told["error"]["message"])
