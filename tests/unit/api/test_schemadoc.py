"""Editors and readers get what the API server checks."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stoker.api import resources
from stoker.api.common import Kind
from stoker.api.schemadoc import reference_page
from tests.support.manifests import BadManifest, bad_manifests, training_job

KINDS = resources.kinds()
#: Refused by rules alone, which a JSON Schema does not know.
BY_RULE = {bad.name for bad in bad_manifests() if bad.offline == bad.server}
BY_SCHEMA = [bad for bad in bad_manifests() if bad.name not in BY_RULE and "a second item" not in bad.offline]


@pytest.fixture(scope="module")
def schemas(repository: Path) -> dict[str, Any]:
    folder = repository / "docs/reference/schemas"
    return {kind.kind: json.loads((folder / f"{kind.kind.lower()}.json").read_text()) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_schemas_are_schemas(schemas: dict[str, Any], kind: Kind) -> None:
    jsonschema.Draft7Validator.check_schema(schemas[kind.kind])


def test_a_good_manifest_fits(schemas: dict[str, Any]) -> None:
    job = training_job(tags={"a": "b"}, inputs={"lr": {"value": "1"}})
    job["spec"]["command"]["pod"] = {"volumes": [{"name": "a", "emptyDir": {}}], "labels": {"x": "y"}}
    job["spec"]["command"]["resources"] = {"requests": {"cpu": 2, "memory": "1Gi"}}

    jsonschema.validate(job, schemas["TrainingJob"])


@pytest.mark.parametrize("bad", BY_SCHEMA, ids=lambda bad: bad.name)
def test_an_editor_marks_what_the_schema_refuses(schemas: dict[str, Any], bad: BadManifest) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad.document, schemas[bad.kind])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_page_names_every_field_of_the_spec_and_every_rule(kind: Kind) -> None:
    page = reference_page(kind)

    assert page.startswith("<!-- Generated")
    assert f"kubectl get {kind.plural}" in page
    assert all(line.count("|") - line.count("\\|") in (4, 5) for line in page.splitlines() if line.startswith("|"))
    assert "## Rules" in page
