"""Manifests are refused offline with the field, the value and what to do."""

from typing import Any

import pytest

from stoker.api.names import API_VERSION
from stoker.api.twins import without_twin
from stoker.api.validate import Problem, problems
from tests.support.manifests import BadManifest, bad_manifests, training_job

BAD = list(bad_manifests())


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_manifest_is_refused_where_it_is_wrong(bad: BadManifest) -> None:
    found = problems(bad.kind, bad.document, bad.former)

    assert [bad.field] == [problem.path for problem in found]
    assert bad.offline in str(found[0])
    assert found[0].fix


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.former], ids=lambda bad: bad.name)
def test_what_an_update_may_not_change_may_be_there_from_the_start(bad: BadManifest) -> None:
    assert problems(bad.kind, bad.document) == []
    assert problems(bad.kind, bad.former) == []


def test_there_are_enough_bad_manifests() -> None:
    assert len(BAD) >= 30


def test_every_rule_has_its_twin() -> None:
    assert without_twin() == []


def test_a_good_manifest_has_no_problem() -> None:
    job = training_job(
        inputs={"lr": {"value": "0.1"}, "data": {"path": "s3://bucket/data/", "mode": "download"}},
        outputs={"model": {}},
        limits={"timeoutSeconds": 60},
        command={
            "command": "python train.py --lr ${{ inputs.lr }} ${{inputs.data}} --out ${{outputs.model}}",
            "environment": {"name": "torch"},
            "code": {"inline": {"train.py": "print(1)", "src/.hidden/a..b.py": ""}},
            "resources": {"instanceCount": 2, "requests": {"cpu": 2, "memory": "1.5Gi"}, "shmSize": "64Mi"},
            "pod": {"volumes": [{"name": "cache", "emptyDir": {"medium": "Memory"}}]},
        },
    )

    assert problems("TrainingJob", job) == []
    assert problems("TrainingJob", {**job, "status": {"anything": 1}}, former=job) == []


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ([], "", "not a TrainingJob, but a list"),
        ({**training_job(), "apiVersion": "stoker.dev/v1"}, "apiVersion", "is not stoker.dev/v1alpha1"),
        ({**training_job(), "metadata": {}}, "metadata.name", "is missing"),
        ({**training_job(), "metadata": {"name": "Iris"}}, "metadata.name", "is not a name"),
        ({**training_job(), "metadata": {"name": 7}}, "metadata.name", "is not a name"),
        ({**training_job(), "specs": {}}, "specs", "unknown field 'specs'"),
        ({**training_job(), "spec": None}, "spec", "is missing"),
        ({**training_job(), "spec": "x"}, "spec", "'x' is text, not a mapping"),
        (training_job(compute=None), "spec.compute", "is empty (null)"),
        (training_job(cancel="yes"), "spec.cancel", "'yes' is text, not true or false"),
        (training_job(tags=["a"]), "spec.tags", "is a list, not a mapping"),
        (training_job(inputs={"lr": 0.1}), "spec.inputs.lr", "is a fraction, not a mapping"),
        (training_job(limits={"timeoutSeconds": True}), "spec.limits.timeoutSeconds", "not a whole number"),
    ],
)
def test_a_document_of_another_shape_is_named(document: Any, path: str, message: str) -> None:
    (found,) = problems("TrainingJob", document)

    assert path == found.path
    assert message in found.message


def test_a_null_where_there_is_a_default_means_the_default() -> None:
    assert problems("TrainingJob", training_job(limits=None, cancel=None)) == []


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"shmSize": "lots"}, "shmSize"),
        ({"scratch": {"size": "1 TB"}}, "scratch.size"),
        ({"requests": {"cpu": "x"}}, "requests.cpu"),
    ],
)
def test_a_size_that_is_none_is_told_with_examples(resources: dict[str, Any], path: str) -> None:
    command = {"command": "true", "environment": {"name": "e"}, "resources": resources}
    document = {
        "apiVersion": API_VERSION,
        "kind": "TrainingJob",
        "metadata": {"name": "a"},
        "spec": {"command": command},
    }

    (found,) = problems("TrainingJob", document)

    assert found.path == f"spec.command.resources.{path}"
    assert "is not a quantity" in found.message
    assert "such as 2, 500m or 16Gi" in found.fix


def test_every_problem_is_told_at_once() -> None:
    job = training_job(limits={"timeoutSeconds": 0}, compute="local", nodes=3, inputs={"a b": {}})

    assert sorted(
        problem.path for problem in problems("TrainingJob", job) if not problem.path.startswith("spec.inputs")
    ) == ["spec.limits.timeoutSeconds", "spec.nodes"]
    assert {"spec.inputs", "spec.inputs.a b.value"} == {
        problem.path for problem in problems("TrainingJob", job) if problem.path.startswith("spec.inputs")
    }


@pytest.mark.parametrize("phase", ["Pending", "Queued", "Starting", "Running", "Failed"])
def test_the_queue_may_change_until_the_run_has_its_nodes(phase: str) -> None:
    before = {**training_job(), "status": {"phase": phase}}
    after = training_job(queue={"priority": "High"})

    found = [problem.path for problem in problems("TrainingJob", after, former=before)]

    assert found == ([] if phase in ("Pending", "Queued") else ["spec.queue"])


@pytest.mark.parametrize(("counted", "expected"), [(None, ["spec.queue"]), ("Neither", [])])
def test_a_run_leaves_its_queue_only_by_being_suspended(counted: str | None, expected: list[str]) -> None:
    attempt = {"number": 1} | ({"counted": counted} if counted is not None else {})
    before = {**training_job(queue={"name": "vision"}), "status": {"phase": "Queued", "attempts": [attempt]}}

    found = [problem.path for problem in problems("TrainingJob", training_job(queue={"name": "nlp"}), former=before)]

    assert expected == found


def test_a_near_name_is_offered() -> None:
    job = training_job()
    job["spec"]["comand"] = job["spec"].pop("command")

    unknown = next(problem for problem in problems("TrainingJob", job) if problem.path == "spec.comand")

    assert unknown.fix == "did you mean command?"


def test_a_problem_reads_as_one_line() -> None:
    assert str(Problem("spec.a", 1, "is wrong", "mend it")) == "spec.a: is wrong; mend it"
    assert str(Problem("", 1, "is wrong", "mend it")) == "is wrong; mend it"
