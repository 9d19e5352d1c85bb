"""The store is true whatever order news comes in."""

from stoker.api.kube import ObjectMeta, OwnerReference, Pod, PodSpec
from stoker.api.names import LABEL_JOB_UID
from stoker.kube.store import Store


def pod(
    name: str = "a", *, uid: str = "1", version: int = 1, namespace: str = "n", node: str = "", job: str = ""
) -> Pod:
    owners = (OwnerReference(kind="Job", name="j", uid="job-1", controller=True),)
    meta = ObjectMeta(
        name=name, namespace=namespace, uid=uid, resource_version=str(version), owner_references=owners,
        labels={LABEL_JOB_UID: job} if job else {},
    )  # fmt: skip
    return Pod(metadata=meta, spec=PodSpec(node_name=node))


def stored(store: Store) -> list[tuple[str, str]]:
    return sorted((item.metadata.name, item.metadata.resource_version) for item in store.all("Pod"))


def test_the_newer_version_wins_whichever_comes_last() -> None:
    store = Store()
    store.put("Pod", pod(version=10))

    assert not store.put("Pod", pod(version=9))
    assert stored(store) == [("a", "10")]


def test_versions_are_compared_as_numbers() -> None:
    store = Store()
    store.put("Pod", pod(version=99))

    assert store.put("Pod", pod(version=100))


def test_what_has_gone_does_not_come_back_by_a_slow_answer() -> None:
    store = Store()
    store.put("Pod", pod(version=1))
    store.remove("Pod", pod(version=5))

    assert not store.put("Pod", pod(version=4))
    assert stored(store) == []


def test_an_object_that_was_made_anew_replaces_the_old_one() -> None:
    store = Store()
    store.put("Pod", pod(uid="old", version=1))
    store.put("Pod", pod(uid="new", version=7))

    assert not store.remove("Pod", pod(uid="old", version=6))
    assert store.by_uid("old") is None
    assert store.by_uid("new") is not None


def test_a_relist_removes_what_it_does_not_have() -> None:
    store = Store()
    for name in "abc":
        store.put("Pod", pod(name, uid=name, version=1))

    store.replace("Pod", [pod("b", uid="b", version=1)], at="10")

    assert stored(store) == [("b", "1")]


def test_a_relist_keeps_what_we_wrote_after_it_was_read() -> None:
    store = Store()
    store.put("Pod", pod("new", uid="n", version=11))

    store.replace("Pod", [], at="10")

    assert stored(store) == [("new", "11")]


def test_a_relist_of_one_namespace_leaves_the_others() -> None:
    store = Store()
    store.put("Pod", pod("a", uid="a", namespace="one"))
    store.put("Pod", pod("b", uid="b", namespace="two"))

    store.replace("Pod", [], at="10", namespace="one")

    assert stored(store) == [("b", "1")]


def test_indexes_follow_every_change() -> None:
    store = Store()
    store.put("Pod", pod(version=1, job="j"))
    assert store.on_node("x") == []

    store.put("Pod", pod(version=2, node="x", job="j"))
    assert [1, 1, 1, 1] == [
        len(found)
        for found in (
            store.on_node("x"), store.of_job("Pod", "j"), store.owned_by("Pod", "job-1"), store.within("Pod", "n")
        )
    ]  # fmt: skip

    store.remove("Pod", pod(version=3))
    assert store.on_node("x") == store.of_job("Pod", "j") == store.owned_by("Pod", "job-1") == []


def test_listeners_hear_of_changes_only() -> None:
    store, heard = Store(), []
    store.listen(lambda kind, old, new: heard.append((kind, old is None, new is None)))

    store.put("Pod", pod(version=1))
    store.put("Pod", pod(version=1))
    store.put("Pod", pod(version=2))
    store.remove("Pod", pod(version=3))
    store.remove("Pod", pod(version=3))

    assert heard == [("Pod", True, False), ("Pod", False, False), ("Pod", False, True)]
