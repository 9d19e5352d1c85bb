"""spec.cleanup: when the pods of a run go. Its record stays, and so does the TrainingJob."""

from typing import Any

import pytest

from stoker.core import trainingjob
from stoker.core.plan import Create, Delete
from tests.support import build
from tests.support.build import child, job, view
from tests.support.world import World

ENDED: dict[str, Any] = {"phase": "Completed", "finishedAt": build.stamp(100)}
GONE = Delete("Job", "team", "iris-0c0ffee0-1", "uid-iris-0c0ffee0-1")


@pytest.mark.parametrize(("cleanup", "seconds"), [({}, 3600), ({"podsAfterSeconds": 90}, 90)])
def test_a_child_is_made_to_stay_so_long(cleanup: dict[str, Any], seconds: int) -> None:
    made = trainingjob.plan(view(job(cleanup=cleanup), placed=["n0"]), build.T0 + 5)

    (create,) = (action for action in made.actions if isinstance(action, Create))
    assert create.manifest["spec"]["ttlSecondsAfterFinished"] == seconds


def test_pods_go_sooner_when_that_was_shortened_after_they_were_made() -> None:
    shortened = job(cleanup={"podsAfterSeconds": 60}, status=ENDED)

    before = trainingjob.plan(view(shortened, children=(child(ended="Complete"),)), build.T0 + 159)
    assert (before.actions, before.wake_at) == ((), build.T0 + 160)

    due = trainingjob.plan(view(shortened, children=(child(ended="Complete"),)), build.T0 + 160)
    assert (due.actions, due.status) == ((GONE,), None)


@pytest.mark.parametrize(
    ("cleanup", "ttl", "deleting"),
    [({}, 3600, False), ({"podsAfterSeconds": 60}, 60, False), ({"podsAfterSeconds": 7200}, 3600, False),
     ({"podsAfterSeconds": 60}, 3600, True)],
)  # fmt: skip
def test_what_kubernetes_takes_away_by_itself_costs_no_write(cleanup: Any, ttl: int, deleting: bool) -> None:
    kept = view(job(cleanup=cleanup, status=ENDED), children=(child(ended="Complete", ttl=ttl, deleting=deleting),))

    assert trainingjob.plan(kept, build.T0 + 90_000).actions == ()


def test_the_status_stays_when_the_pods_have_gone() -> None:
    world = World(build.cluster())
    world.have_node("r0")
    world.submit(job(cleanup={"podsAfterSeconds": 60}))
    world.run(60)
    shown = world.jobs[build.UID].status
    world.children.clear()
    world.pods.clear()

    world.run(7200)

    assert world.jobs[build.UID].status == shown
    assert [output.path for output in shown.outputs] == ["model.pkl"]
    assert ("ResultWritten", build.KEY) in world.stored
