"""What every schema owes: closed, bounded, described, small, and the same as what is committed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml

from stoker.api import openapi, resources
from stoker.api.common import Kind
from stoker.api.openapi import RULES_KEY, Schema, SchemaError, crd, kind_schema
from stoker.api.schema import Spec, field

KINDS = resources.kinds()
#: YAML 1.1 reads these as booleans, and half of the tools still do.
BOOLEAN_WORDS = {"on", "off", "yes", "no", "y", "n", "true", "false"}


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for suffix, key in (("[]", "items"), (".*", "additionalProperties")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + suffix)


ALL = [(kind.kind, path, schema) for kind in KINDS for path, schema in nodes(kind_schema(kind.kind))]


def test_the_committed_files_are_what_the_types_say(repository: Path) -> None:
    told = subprocess.run(
        [sys.executable, "tools/generate.py", "--check"], cwd=repository, capture_output=True, text=True
    )

    assert told.stderr == ""
    assert told.returncode == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_crd_fits_kubectl_apply(kind: Kind, repository: Path) -> None:
    text = (repository / "crds" / f"{kind.plural}.yaml").read_text()

    assert len(text.encode()) < 80 * 1024
    assert yaml.safe_load(text) == crd(kind)
    assert text == (repository / "charts/stoker/files/crds" / f"{kind.plural}.yaml").read_text()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_has_its_names_a_status_columns_and_a_rule(kind: Kind) -> None:
    spec = crd(kind)["spec"]
    version = spec["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]

    assert spec["names"]["categories"] == ["stoker"]
    assert spec["names"]["shortNames"] == [kind.short]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"
    assert "conditions" in schema["properties"]["status"]["properties"]
    assert any(RULES_KEY in part for path, part in nodes(kind_schema(kind.kind)))


def test_trainingjobs_are_listed_with_what_people_ask_for() -> None:
    columns = crd(resources.kind_named("TrainingJob"))["spec"]["versions"][0]["additionalPrinterColumns"]

    assert [column["name"] for column in columns] == ["Phase", "Compute", "Reason", "Duration", "Age"]
    # A job that waits has no .status.reason, and `kubectl get` shall tell why it waits.
    assert columns[2]["jsonPath"] == '.status.conditions[?(@.type=="Ready")].reason'


def test_every_list_and_map_is_bounded() -> None:
    unbounded = [
        (kind, path)
        for kind, path, schema in ALL
        if (schema.get("type") == "array" and "maxItems" not in schema)
        or ("additionalProperties" in schema and "maxProperties" not in schema)
    ]

    assert unbounded == []


def test_every_text_of_a_spec_is_bounded() -> None:
    unbounded = [
        (kind, path)
        for kind, path, schema in ALL
        if path.startswith(".spec") and schema.get("type") == "string" and not schema.keys() & {"maxLength", "enum"}
    ]

    assert unbounded == []


def test_every_field_is_described() -> None:
    bare = [
        (kind, path)
        for kind, path, schema in ALL
        if not path.endswith(("[]", ".*", ".metadata")) and not schema.get("description")
    ]

    assert bare == []


def test_nothing_is_spelt_like_a_boolean() -> None:
    words = {
        word.lower()
        for _, path, schema in ALL
        for word in (*schema.get("properties", {}), *schema.get("enum", ()))
        if path != ".status.conditions[].status"  # Kubernetes' own convention
    }

    assert words & BOOLEAN_WORDS == set()


def test_a_list_map_is_keyed_by_a_required_member() -> None:
    for kind, path, schema in ALL:
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            assert key in schema["items"]["required"], (kind, path)


def test_optional_is_not_nullable_and_a_status_has_no_defaults_inside() -> None:
    for kind, path, schema in ALL:
        assert "nullable" not in schema, (kind, path)
        assert not (path.startswith(".status.") and "default" in schema), (kind, path)


def test_a_new_job_says_that_nobody_has_seen_it() -> None:
    status = kind_schema("TrainingJob")["properties"]["status"]["default"]

    assert status["phase"] == "Pending"
    assert [(one["type"], one["status"], one["reason"]) for one in status["conditions"]] == [
        ("Ready", "Unknown", "WaitingForController")
    ]


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Annotated[tuple[str, ...], field("Unbounded.")], "no maxItems"),
        (Annotated[dict[str, str], field("Unbounded.")], "no maxProperties"),
        (str, "no description"),
        (Annotated[bytes, field("Not JSON.")], "no structural schema"),
        (Annotated[int | str, field("Two forms.")], "no structural schema"),
    ],
)
def test_a_type_that_has_no_good_schema_is_an_error_that_names_it(hint: Any, said: str) -> None:
    of = type("Odd", (Spec,), {"__annotations__": {"odd": hint}, "__doc__": "Odd."})

    with pytest.raises(SchemaError, match=said):
        openapi._schema(of, "Odd")
