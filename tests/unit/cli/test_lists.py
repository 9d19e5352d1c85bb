"""What a list says of runs of which only a part is left."""

from typing import Any, cast

from stoker.cli.jobs import _image_words, line_of
from stoker.sdk.runrecords import ClusterRun

KEY = "iris-0c0ffee0"
JOB = {"name": "iris", "namespace": "team", "compute": "cpu", "submittedAt": "2026-01-02T03:04:05Z"}


def cluster_run() -> ClusterRun:
    return ClusterRun(cast(Any, None), KEY, None)


def test_a_run_without_object_and_result_was_deleted_and_is_not_told_as_running() -> None:
    line = line_of(cluster_run(), {"key": KEY, "job": JOB, "result": None})

    assert ("Canceled", "Deleted") == (line["phase"], line["reason"])


def test_a_run_whose_object_is_gone_ended_as_its_result_says() -> None:
    line = line_of(cluster_run(), {"key": KEY, "job": JOB, "result": {"phase": "Completed", "reason": "Completed"}})

    assert ("Completed", "Completed") == (line["phase"], line["reason"])


def test_an_image_is_shown_with_what_tells_it_from_others() -> None:
    built, digest = "registry.example.com/ml/team/environments", "sha256:" + "1" * 64

    assert f"{built}@{digest}" == _image_words({"reference": built, "digest": digest})
    assert f"{built}@{digest}" == _image_words({"reference": f"{built}@{digest}", "digest": digest})
    assert "" == _image_words({})
