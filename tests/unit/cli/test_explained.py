"""What `stoker why --plan` prints of a plan and its facts."""

from stoker.cli.explained import lines
from stoker.core import trainingjob
from stoker.core.trainingjob.explain import explain
from tests.support import build


def test_what_lost_ranks_left_is_a_line_each() -> None:
    view = build.view(
        children=(build.child(ended="Failed"),),
        claims=(build.claim(owned=False), build.claim(attempt=2, deleting=True)),
        salvages=(build.salvage(ended="Complete"),),
    )
    now = build.T0 + 22

    told = [line.strip() for line in lines(explain(view, trainingjob.plan(view, now), None, now))]

    assert "PersistentVolumeClaim/iris-0c0ffee0-1-0-x-stoker-scratch: rank 0 of attempt 1, Bound, owned by Pod" in told
    assert "PersistentVolumeClaim/iris-0c0ffee0-2-0-x-stoker-scratch: rank 0 of attempt 2, being deleted" in told
    assert "Job/iris-0c0ffee0-1-s0: saves what a lost rank left, ended" in told
    assert any(line.startswith("do     AddOwner kind=PersistentVolumeClaim") for line in told)
