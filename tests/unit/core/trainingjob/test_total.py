"""Whatever is seen, there is a plan: nothing raises, every observation has a stand, a status is worth its write."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.api import names
from stoker.api.trainingjob import TrainingJob
from stoker.core import trainingjob
from stoker.core.plan import Ask, Create, Delete, Found, Question, Refused, Unavailable
from stoker.core.trainingjob.seen import look
from stoker.core.trainingjob.stands import STANDS, where
from stoker.core.trainingjob.view import JobView, Placement, WorkspaceView
from tests.support import build

WHEN = st.floats(-10, 400)
GARBAGE = st.sampled_from(
    [
        None,
        True,
        7,
        "x",
        (),
        {},
        {0: "no"},
        {0: {"exit": 3}},
        {0: build.seal()},
        {"phase": "Completed"},
        {"key": build.KEY},
        {"key": "iris-11111111", "result": {"phase": "Completed", "attempts": [7, {"number": "1"}]}},
    ]
)
REPLIES = st.one_of(
    st.none(),
    st.builds(Found, GARBAGE),
    st.builds(
        Refused,
        st.sampled_from(["", "Denied"]),
        st.just("no"),
        st.just(""),
        st.none() | WHEN.map(lambda w: build.T0 + w),
    ),
    st.builds(Unavailable, st.just("Away"), st.just("no answer"), st.just(""), WHEN.map(lambda w: build.T0 + w)),
)


class Anything(build.Answering):
    """Answers drawn as they are asked for: mostly what is true, else anything of the right kind."""

    def __init__(self, draw: st.DrawFn, oddity: int) -> None:
        super().__init__()
        self.draw, self.oddity = draw, oddity
        self.drawn: dict[Question, Any] = {}

    def get(self, question: Any, default: Any = None) -> Any:
        if question not in self.drawn:
            odd = self.draw(st.integers(0, 9)) < self.oddity
            ordinary = {**{rank: build.seal(rank) for rank in range(3)}}
            self.seals = ordinary if self.draw(st.booleans()) else {}
            reply = self.draw(REPLIES) if odd else super().get(question)
            text_only = type(question).__name__ in (
                "SnapshotPresent",
                "InlineSnapshot",
                "ImageDigest",
                "InputFiles",
                "Recorded",
            )
            if odd and text_only and isinstance(reply, Found):
                # The executor's answers have the type their question says; only what the store holds may be anything.
                reply = super().get(question)
            self.drawn[question] = reply
        return self.drawn[question]


@st.composite
def jobs(draw: st.DrawFn) -> TrainingJob:
    nodes = draw(st.integers(1, 3))
    status = draw(
        st.sampled_from([
            None, {"phase": "Queued", "waiting": {"reason": "NodesBooting", "since": build.stamp(3)}},
            {"phase": "Running", "attempts": [{"number": 1}]},
            {"phase": "Canceling", "attempts": [{"number": 1, "reason": "Canceled"}]},
            {"phase": "Finalizing", "attempts": [{"number": 2, "reason": "NodeLost"}]},
            {"phase": "Queued", "failures": 1, "attempts": [{"number": 1, "counted": "Failure", "endedAt": build.stamp(20)}]},
            {"phase": "Finalizing", "attempts": [{"number": 1, "reason": "Suspended"}]},
            {"phase": "Suspended", "attempts": [{"number": 1, "reason": "Suspended", "counted": "Neither"}]},
            {"phase": "Queued", "interruptions": 1, "attempts": [{"number": 1, "counted": "Interruption"}]},
            {"phase": "Completed"}, {"conditions": [{"type": "Failed", "status": "True", "reason": "x"}]},
        ])
    )  # fmt: skip
    return build.job(
        nodes=nodes, compute=draw(st.sampled_from(["cpu", "gone", None])), status=status, cancel=draw(st.booleans()),
        runPolicy=draw(st.sampled_from(["PerObject", "PerObject", "PerName"])),
        suspend=draw(st.sampled_from([False, False, True])),
        command=draw(st.sampled_from([
            {}, {"code": {"inline": {"a.py": "1"}}}, {"environment": {"name": "torch"}}, {"command": "${{inputs.x}}"},
            {"pod": {"securityContext": {"runAsUser": 0}}},
        ])) | {"resources": {"instanceCount": nodes}},
        inputs=draw(st.sampled_from([{}, {"x": {"value": "1"}}, {"x": {"path": "s3://runs/team/d/"}}, {"x": {"path": "s3://no/"}}])),
        retry=draw(st.sampled_from([{}, {"limit": 1}, {"interruptionLimit": 0}])),
        limits=draw(st.sampled_from([{}, {"queueTimeoutSeconds": 60}, {"timeoutSeconds": 30, "graceSeconds": 10}])),
    )  # fmt: skip


@st.composite
def views(draw: st.DrawFn) -> JobView:
    job = draw(jobs())
    attempt = draw(st.sampled_from([1, 1, 1, 2]))
    pods = [
        build.pod(
            rank, job, attempt=attempt, on=draw(st.sampled_from(["", "n0", "n1", "gone"])),
            started=draw(st.none() | st.floats(2, 50)), saving=draw(st.none() | st.floats(2, 90)),
            exit_code=draw(st.sampled_from([None, None, 0, 1, 137])), ended=draw(st.none() | st.floats(2, 100)),
            phase=draw(st.sampled_from([None, None, "Pending", "Running", "Succeeded", "Failed", "Unknown"])),
            reason=draw(st.sampled_from(["", "Evicted"])),
        )
        for rank in range(3) if draw(st.booleans())
    ]  # fmt: skip
    children = [
        build.child(job, attempt=attempt, nodes=draw(st.sampled_from([(), ("n0",), ("n0", "n1")])),
                    ended=draw(st.sampled_from(["", "", "Complete", "Failed"])), deleting=draw(st.booleans()))
    ] if draw(st.booleans()) else []  # fmt: skip
    nodes = [
        build.node(name, ready=draw(st.sampled_from(["True", "True", "False", "Unknown"])), since=draw(WHEN))
        for name in ("n0", "n1") if draw(st.booleans())
    ]  # fmt: skip
    placement = draw(st.sampled_from([
        None, Placement(), Placement(reason="PoolFull", message="full"), Placement(True, ("n0",)), Placement(True, ("n0", "n1")),
        Placement(True),
    ]))  # fmt: skip
    workspace = draw(
        st.sampled_from(
            [WorkspaceView(build.STORAGE)] * 4 + [WorkspaceView(""), WorkspaceView("s3://x", problem=("Taken", "x"))]
        )
    )
    pending = draw(st.sampled_from(["Bound", "Bound", "Pending", "Lost"]))
    claims = [
        build.claim(rank, job, attempt=draw(st.sampled_from([attempt, attempt, 1, 3])), phase=pending,
                    owned=draw(st.booleans()), deleting=draw(st.integers(0, 5)) == 0)
        for rank in range(3) if draw(st.booleans())
    ] if draw(st.booleans()) else []  # fmt: skip
    salvages = [
        build.salvage(rank, job, attempt=attempt, created=draw(st.floats(2, 100)), deleting=draw(st.integers(0, 5)) == 0,
                      ended=draw(st.sampled_from(["", "", "Complete", "Failed"])))
        for rank in range(2) if claims and draw(st.booleans())
    ]  # fmt: skip
    salvage_pods = [build.salvage_pod(one, running=draw(st.booleans())) for one in salvages if draw(st.booleans())]
    return build.view(
        job, claims=tuple(claims), salvages=tuple(salvages), salvage_pods=tuple(salvage_pods), children=tuple(children), pods=tuple(pods), nodes=nodes, placement=placement, workspace=workspace,
        without_cluster=draw(st.integers(0, 5)) == 0, on=build.cluster(provider=draw(st.sampled_from(["Scale", "Static", "External"]))),
        events=draw(st.sampled_from([(), (build.rejected("quota"),)])),
        environment=draw(st.sampled_from([None, build.environment()])),
        answers=Anything(draw, draw(st.sampled_from([0, 0, 3, 8]))),
    )  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(views(), WHEN)
def test_every_observation_has_a_plan(view: JobView, after: float) -> None:
    now = build.T0 + after

    made = trainingjob.plan(view, now)

    seen = look(view, now)
    stand = where(seen)
    assert stand in STANDS
    assert made.status is None or made.status != view.job.status
    assert made.wake_at is None or isinstance(made.wake_at, float)
    trainingjob.demand(view, now)
    waiting = trainingjob.why(view, now)
    if seen.finished:
        assert made.status is None
        assert all(isinstance(action, Delete) for action in made.actions)
    created = [action.manifest["metadata"]["labels"] for action in made.actions if isinstance(action, Create)]
    if any(names.LABEL_SALVAGE in labels for labels in created):
        assert seen.attempt is not None
        assert all(names.LABEL_SALVAGE in labels for labels in created), "a child beside a salvage"
    elif created:
        assert seen.attempt is None, "never a second child"
        assert not seen.cancel
        assert not seen.suspend
        assert seen.preparation.name.known
        assert seen.preparation.record.known
    if made.status is not None and made.status.phase == "Completed":
        assert seen.attempt is not None or seen.former_run is not None
    if (
        not seen.finished
        and stand.phase not in ("Running", "Completed")
        and stand.name not in ("Completed", "Failed", "Canceled", "Retrying", "RanBefore")
    ):
        assert waiting is not None, f"{stand.name} says nothing"
    assert not any(isinstance(action, Ask) for action in made.actions) or not seen.finished
