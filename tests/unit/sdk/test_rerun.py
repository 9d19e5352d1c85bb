"""A run of before as a draft."""

from pathlib import Path
from typing import Any

import pytest

from stoker.errors import BadInput
from stoker.sdk.rerun import draft_of

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def job(**members: Any) -> dict[str, Any]:
    return {
        "name": "iris-7f3k", "compute": "cpu", "snapshot": DIGEST,
        "image": {"reference": "registry.example.com/ml/iris:1", "digest": OTHER},
        "inputs": {
            "lr": {"type": "literal", "value": "0.1"},
            "data": {"type": "uri_folder", "source": "s3://b/x/", "digest": OTHER, "files": []},
        },
        "spec": {
            "type": "command", "compute": "cpu", "cancel": False,
            "inputs": {"lr": {"value": "0.1"}, "data": {"path": "s3://b/x/"}},
            "command": {"command": "python train.py ${{inputs.lr}}", "environment": {"name": "torch"}},
        },
        **members,
    }  # fmt: skip


def test_a_run_is_what_it_was_under_a_new_name(tmp_path: Path) -> None:
    draft = draft_of(job(), (), tmp_path, exact=False)

    assert (None, "iris", DIGEST) == (draft.name, draft.base, draft.snapshot)
    assert draft.environment is not None
    assert "torch" == draft.environment.name
    assert {"lr": {"value": "0.1"}, "data": {"path": "s3://b/x/"}} == draft.spec["inputs"]
    assert "cancel" not in draft.spec


def test_a_value_may_be_set(tmp_path: Path) -> None:
    draft = draft_of(job(), ["inputs.lr=0.2"], tmp_path, exact=False)

    assert {"value": "0.2"} == draft.spec["inputs"]["lr"]


def test_exactly_means_the_image_and_the_data_by_digest(tmp_path: Path) -> None:
    draft = draft_of(job(), (), tmp_path, exact=True)

    assert draft.environment is not None
    assert f"registry.example.com/ml/iris@{OTHER}" == draft.environment.image
    assert {"path": "s3://b/x/", "digest": OTHER} == draft.spec["inputs"]["data"]
    assert {"value": "0.1"} == draft.spec["inputs"]["lr"]


def test_exactly_and_another_value_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--exact repeats a run as it was"):
        draft_of(job(), ["inputs.lr=0.2"], tmp_path, exact=True)


def test_data_without_a_digest_cannot_be_held_to_it(tmp_path: Path) -> None:
    told = {
        "lr": {"type": "literal", "value": "0.1"},
        "data": {"type": "uri_folder", "source": "s3://b/x/", "files": []},
    }

    with pytest.raises(BadInput, match=r"inputs\.data: the record has no digest of it"):
        draft_of(job(inputs=told), (), tmp_path, exact=True)


def test_what_git_knew_of_the_code_goes_with_it(tmp_path: Path) -> None:
    draft = draft_of(job(commit="c" * 40, dirty=True, diff="d\n"), (), tmp_path, exact=False)

    assert {"stoker.dev/commit": "c" * 40 + "-dirty", "stoker.dev/diff": "d\n"} == draft.metadata["annotations"]


def test_data_of_this_machine_has_to_be_there(tmp_path: Path) -> None:
    gone = {"type": "uri_folder", "path": (tmp_path / "gone").as_uri()}
    spec = {**job()["spec"], "inputs": {**job()["spec"]["inputs"], "d": gone}}

    with pytest.raises(BadInput, match="is not there any more"):
        draft_of(job(spec=spec), (), tmp_path, exact=False)
