"""job.json and result.json say what was asked, pinned and became of it; the same for cluster and laptop."""

import json
from typing import Any

import pytest

from stoker.core import record, trainingjob
from stoker.core.inputdigest import listing_digest
from stoker.core.plan import Ask, InlineSnapshot, InputFiles, Recorded
from stoker.core.record import Ending, Identity, RankEnd
from tests.support import build
from tests.support.build import Answering, job, view


def job_json(*args: Any, **members: Any) -> dict[str, Any]:
    """The job.json that a plan asks to be written."""
    made = trainingjob.plan(view(job(*args, **members), answers=Answering(silent=(Recorded,))), build.T0 + 1)
    (question,) = [action.question for action in made.actions if isinstance(action, Ask)]
    assert isinstance(question, Recorded)
    decoded: dict[str, Any] = json.loads(question.record)
    return decoded


def test_the_record_pins_what_the_run_is_made_of() -> None:
    told = job_json(
        command={
            "command": "t --lr ${{inputs.lr}} ${{inputs.data}} ${{outputs.model}}",
            "env": [{"name": "A", "value": "1"}],
        },
        inputs={"lr": {"value": "0.1"}, "data": {"path": f"{build.STORAGE}/data/"}},
        outputs={"model": {"type": "uri_folder"}},
        tags={"team": "vision"},
        limits={"timeoutSeconds": 60},
    )

    assert told["command"] == "t --lr 0.1 /stoker/inputs/data /stoker/work/outputs/model"
    assert told["snapshot"] == build.SNAPSHOT
    assert told["image"] == {"reference": build.IMAGE, "digest": build.DIGEST}
    assert told["env"] == {"A": "1"}
    assert told["inputs"]["lr"] == {"type": "literal", "value": "0.1"}
    assert told["inputs"]["data"]["files"] == [{"key": "data/a.csv", "path": "a.csv", "size": 7}]
    assert told["outputs"] == {"model": {"type": "uri_folder", "mode": "upload"}}
    assert told["limits"] == {"timeoutSeconds": 60, "graceSeconds": 600, "logBytes": 1 << 30, "scratchBytes": None}
    assert (told["key"], told["compute"], told["submittedAt"]) == (build.KEY, "cpu", build.stamp(0))
    assert told["spec"]["command"]["environment"] == {"spec": {"image": build.IMAGE}}


def test_a_timeout_that_the_job_does_not_say_is_thirty_days() -> None:
    assert job_json()["limits"]["timeoutSeconds"] == 30 * 86400


@pytest.mark.parametrize(("retry", "told"), [({}, None), ({"limit": 1}, None), ({"restore": "Nothing"}, "Nothing")])
def test_what_a_new_attempt_finds_is_recorded_where_it_is_not_its_checkpoints(
    retry: dict[str, Any], told: str | None
) -> None:
    assert told == job_json(retry=retry).get("restore")


def test_a_snapshot_input_is_recorded_by_digest() -> None:
    told = job_json(inputs={"csv": {"type": "uri_file", "path": f"snapshot:{build.SNAPSHOT}"}})

    assert told["inputs"]["csv"] == {
        "type": "uri_file", "mode": "download", "source": f"snapshot:{build.SNAPSHOT}", "snapshot": build.SNAPSHOT,
        "digest": build.SNAPSHOT,
    }  # fmt: skip


def test_a_secret_is_recorded_by_where_it_is() -> None:
    told = job_json(
        command={
            "command": "t ${{inputs.token}}",
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "c"}, "prefix": "C_"}],
        },
        inputs={"token": {"secretRef": {"name": "s", "key": "k"}}},
    )

    assert told["command"] == "t ${STOKER_INPUT_token}"
    assert told["inputs"]["token"] == {"type": "secret", "secretRef": {"name": "s", "key": "k"}}
    assert told["env"] == {"A": "1"}
    assert told["envReferences"] == {"B": {"secretKeyRef": {"name": "s", "key": "b"}}}
    assert told["envFrom"] == [{"configMapRef": {"name": "c"}, "prefix": "C_"}]


def test_the_record_of_a_job_without_secrets_says_nothing_of_them() -> None:
    assert not {"envReferences", "envFrom"} & job_json().keys()


def test_the_commit_of_the_code_is_recorded_from_the_annotations() -> None:
    told = job_json(annotations={"stoker.dev/commit": "a" * 40 + "-dirty", "stoker.dev/diff": "-1\n+2\n"})

    assert ("a" * 40, True, "-1\n+2\n") == (told["commit"], told["dirty"], told["diff"])


def test_a_digest_of_the_data_is_recorded() -> None:
    told = job_json(inputs={"d": {"path": f"{build.STORAGE}/d/"}})

    assert listing_digest(build.INPUT_FILES) == told["inputs"]["d"]["digest"]


def test_nothing_is_recorded_before_everything_is_known() -> None:
    seen = view(
        job(command={"code": {"inline": {"b.py": "2", "a.py": "1"}}}, inputs={"d": {"path": f"{build.STORAGE}/d/"}}),
        answers={},
    )

    asked = [action.question for action in trainingjob.plan(seen, build.T0).actions if isinstance(action, Ask)]

    assert InlineSnapshot("team", (("a.py", "1"), ("b.py", "2"))) in asked
    assert InputFiles("team", f"{build.STORAGE}/d/", False) in asked
    assert not any(isinstance(question, Recorded) for question in asked)


def test_a_result_lists_ranks_and_outputs() -> None:
    ending = Ending(
        "Failed", "CommandFailed", "boom", 3, finished_at=build.stamp(9),
        attempts=((1, "CommandFailed", (RankEnd(0, build.seal()), RankEnd(1, None))),),
    )  # fmt: skip

    told = record.result_record(Identity("iris", "team", build.UID, build.KEY, build.stamp(0)), ending)

    assert told["attempts"][0]["ranks"] == [
        {"rank": 0, "sealed": "complete", "exitCode": 0, "reason": None},
        {"rank": 1, "sealed": "incomplete", "exitCode": None, "reason": None},
    ]
    assert told["outputs"] == [{"path": "model.pkl", "size": 12, "sha256": "c" * 64, "attempt": 1, "rank": 0}]
    assert (told["startedAt"], told["exitCode"]) == (None, 3)


def test_a_result_names_what_was_no_file_and_only_the_first_of_many() -> None:
    many = [{"path": f"outputs/{number:03}", "reason": "a FIFO"} for number in range(101)]
    few = [
        {"path": "logs/x", "reason": "a FIFO"},
        {"path": "outputs/best.pt", "reason": "a link that leads nowhere (x)"},
    ]

    def told(*skipped: list[dict[str, str]]) -> dict[str, Any]:
        ranks = tuple(RankEnd(rank, {**build.seal(), "skipped": one}) for rank, one in enumerate(skipped))
        ending = Ending("Completed", "Completed", "", 0, attempts=((1, "Completed", ranks),))
        return record.result_record(Identity("iris", "team", build.UID, build.KEY, build.stamp(0)), ending)

    assert [{"path": "best.pt", "reason": "a link that leads nowhere (x)", "rank": 1}] == told([], few)["skipped"]
    assert record.MOST_SKIPPED == len(told(many)["skipped"])
    assert "skipped" not in told([])


def test_a_record_is_written_in_one_way() -> None:
    assert record.encode({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'
