"""Events are counted, not repeated, and a burst of them is cut."""

from stoker.api.kube import ObjectMeta
from stoker.kube.events import BURST, QUIET_SECONDS, Aggregator, Note

META = ObjectMeta(name="iris", namespace="team", uid="u-1")


def note(aggregator: Aggregator, now: float, reason: str = "NameTaken", uid: str = "u-1") -> Note | None:
    meta = ObjectMeta(name="iris", namespace="team", uid=uid)
    return aggregator.note(meta, "TrainingJob", "stoker.dev/v1alpha1", reason, "it is taken", now)


def test_the_same_event_is_sent_once_and_counted() -> None:
    aggregator = Aggregator()
    assert note(aggregator, 0) is not None
    assert note(aggregator, 1) is None

    later = note(aggregator, QUIET_SECONDS + 1)

    assert later is not None
    assert (later.count, later.first, later.last) == (3, 0, QUIET_SECONDS + 1)


def test_it_keeps_its_name_so_that_it_stays_one_object() -> None:
    aggregator = Aggregator()
    first, later = note(aggregator, 0), note(aggregator, 100)

    assert first is not None
    assert later is not None
    assert first.name == later.name


def test_a_burst_is_cut_and_more_come_with_time() -> None:
    aggregator = Aggregator()
    sent = [note(aggregator, 0, uid=f"u-{number}") for number in range(100)]
    assert sum(one is not None for one in sent) == BURST

    assert note(aggregator, 1, uid="u-99") is not None


def test_the_manifest_says_what_it_is_about() -> None:
    sent = note(Aggregator(), 0)

    assert sent is not None
    manifest = sent.manifest("stoker-operator")
    assert manifest["involvedObject"] == {
        "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob", "namespace": "team", "name": "iris", "uid": "u-1",
    }  # fmt: skip
    assert (manifest["type"], manifest["reason"], manifest["firstTimestamp"]) == (
        "Warning", "NameTaken", "1970-01-01T00:00:00Z"
    )  # fmt: skip
