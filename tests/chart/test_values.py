"""values.schema.json: closed, described, and true to values.yaml."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def schema(repository: Path) -> Schema:
    loaded: Schema = json.loads((repository / "charts/stoker/values.schema.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def defaults(repository: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((repository / "charts/stoker/values.yaml").read_text())
    return loaded


def properties(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", part
        yield from properties(part, f"{path}.{name}")
        if isinstance(part.get("items"), dict):
            yield from properties(part["items"], f"{path}.{name}[]")


def test_every_value_is_described(schema: Schema) -> None:
    assert [path for path, part in properties(schema) if "$ref" not in part and not part.get("description")] == []


def test_every_object_is_closed(schema: Schema) -> None:
    open_ones = [
        path
        for path, part in properties(schema)
        if part.get("type") == "object" and "properties" in part and part.get("additionalProperties") is not False
    ]

    assert open_ones == []
    assert schema["additionalProperties"] is False


def test_every_value_has_its_default_in_values_yaml(schema: Schema, defaults: dict[str, Any]) -> None:
    def there(path: str) -> bool:
        value: Any = defaults
        for name in path.strip(".").split("."):
            if not isinstance(value, dict) or name not in value:
                return False
            value = value[name]
        return True

    missing = [path for path, _ in properties(schema) if "[]" not in path and not there(path)]

    assert missing == [".global"]


def test_the_defaults_fit(schema: Schema, defaults: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(defaults, schema)


@pytest.mark.parametrize(
    "values",
    [
        {"nope": 1},
        {"storage": {"bucket": "b"}},
        {"storage": {"url": "https://bucket"}},
        {"server": {"replicas": 0}},
        {"server": {"podRate": 0}},
        {"server": {"personRate": "100"}},
        {"operator": {"logLevel": "LOUD"}},
        {"jobNamespaces": ["Team_A"]},
        {"computeClusters": [{"name": "local", "spec": {}}]},
        {"computeClusters": [{"name": "cpu", "spec": {"maxInstance": 1}}]},
        {"rbac": {"scaleResources": [{"apiGroup": "cluster.x-k8s.io"}]}},
        {"store": {"secretKey": "short"}},
        {"registry": {"url": "https://registry.example.com/ml"}},
        {"registry": {"url": "registry.example.com/ml:1"}},
        {"bundledRegistry": {"mode": "yes"}},
        {"bundledRegistry": {"port": 80}},
    ],
    ids=lambda values: json.dumps(values)[:60],
)
def test_what_cannot_be_meant_is_refused(schema: Schema, values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)
