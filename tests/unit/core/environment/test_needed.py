"""Which keys and digests objects name, and which objects have not said yet."""

from typing import Any

import pytest

from stoker.core.environment.cleaning import Needs
from stoker.core.environment.needed import needs_of, words_in

DIGEST, KEY = "a" * 64, "b" * 64
NOW_TRUE = {"status": "True"}


def made(name: str = "one", spec: Any = None, labels: Any = None, **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "generation": 2, "labels": labels or {}}
    return {"metadata": metadata, "spec": spec or {}, "status": status}


def needs(objects: dict[str, list[Any]], runs: Any = None) -> Needs:
    return needs_of(objects, runs or {}, {"team"})


def test_a_digest_anywhere_in_an_object_is_named_by_it() -> None:
    pod = made("iris-0", {"containers": [{"image": f"registry/environments@sha256:{DIGEST}"}]})
    job = made("iris", environment={"specKey": KEY, "image": f"registry/environments@sha256:{DIGEST}"})

    assert {DIGEST: "Pod team/iris-0"} == needs({"Pod": [pod]}).named
    assert {DIGEST: "TrainingJob team/iris", KEY: "TrainingJob team/iris"} == (
        needs({"Pod": [pod], "TrainingJob": [job]}).named
    )


def test_a_stored_run_names_what_its_record_does() -> None:
    assert {DIGEST: "run iris-0123abcd"} == needs({}, {"iris-0123abcd": [DIGEST]}).named


@pytest.mark.parametrize(("text", "expected"), [(f"x{DIGEST}y", {DIGEST}), (DIGEST + "a", set()), (DIGEST[1:], set())])
def test_a_word_has_64_hex_digits_and_no_more(text: str, expected: set[str]) -> None:
    assert expected == words_in(text)


WAITING = " has not said yet which image it uses"


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (made(), ("TrainingJob team/one" + WAITING,)),
        (made(phase="Preparing", environment={"definitionKey": KEY}), ("TrainingJob team/one" + WAITING,)),
        (made(phase="Preparing", environment={"specKey": KEY}), ()),
        (made(phase="Running", environment={"image": "python@sha256:..."}), ()),
        (made(phase="Failed"), ()),
        (made(spec={"suspend": True}), ()),
        (made(conditions=[{"type": "Stalled", **NOW_TRUE}]), ()),
    ],
)  # fmt: skip
def test_a_job_that_has_not_said_its_image_is_unsettled(job: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert expected == needs({"TrainingJob": [job]}).unsettled


@pytest.mark.parametrize(
    ("environment", "settled"),
    [
        (made(), False),
        (made(observedGeneration=1, conditions=[{"type": "Ready", **NOW_TRUE}]), False),
        (made(observedGeneration=2, conditions=[{"type": "Ready", **NOW_TRUE}]), True),
        (made(observedGeneration=2, conditions=[{"type": "Stalled", **NOW_TRUE}]), True),
        (made(observedGeneration=2, images=[{"specKey": KEY}]), True),
        (made(observedGeneration=2, conditions=[{"type": "Ready", "status": "False"}]), False),
    ],
)  # fmt: skip
def test_an_environment_is_settled_once_its_status_is_of_its_spec(environment: dict[str, Any], settled: bool) -> None:
    assert settled == (needs({"Environment": [environment]}).unsettled == ())


def test_a_build_that_runs_is_unsettled_and_other_jobs_are_not() -> None:
    label = {"stoker.dev/environment-build": "x"}
    ended = made("ended", labels=label, conditions=[{"type": "Complete", **NOW_TRUE}])

    found = needs({"Job": [made("build", labels=label), ended, made("other")]}, {})

    assert ("Job team/build builds an image",) == found.unsettled


def test_who_never_looks_into_the_registry_need_not_have_said_anything() -> None:
    job = made(environment={"image": DIGEST})
    elsewhere = {**job, "metadata": {**job["metadata"], "namespace": "other"}, "status": {}}

    assert () == needs({"TrainingJob": [elsewhere]}).unsettled
    assert {DIGEST: "TrainingJob team/one"} == needs_of({"TrainingJob": [job]}, {}, ()).named
