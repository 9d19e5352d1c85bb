"""What differs between two definitions is named by its input, and nothing else is."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from stoker.api.environment import EnvironmentSpec
from stoker.core.environment import definition, keys
from stoker.core.environment.definition import Definition
from stoker.core.environment.difference import Difference, differences
from tests.unit.core.environment.test_keys import DEFINITIONS

PLAIN: dict[str, Any] = {
    "image": "python:3.12",
    "dockerSteps": ["RUN one", "RUN two"],
    "conda": {"channels": ["conda-forge", "nvidia"], "dependencies": ["numpy=1.26", "pip"]},
    "pip": ["torch==2.0", "mlflow"],
}


def read(**spec: Any) -> Definition:
    return definition.read(msgspec.convert({**PLAIN, **spec}, EnvironmentSpec))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({}, []),
        ({"pip": ["mlflow", "Torch == 2.0"], "refresh": "again"}, []),
        ({"image": "python:3.13"}, [("image", "docker.io/library/python:3.12", "docker.io/library/python:3.13")]),
        ({"dockerSteps": ["RUN two"]}, [("steps[0]", "RUN one", None)]),
        ({"dockerSteps": ["RUN one", "RUN 1.5", "RUN two"]}, [("steps[1]", None, "RUN 1.5")]),
        ({"dockerSteps": ["RUN one", "RUN 2"]}, [("steps[1]", "RUN two", "RUN 2")]),
        (
            {"conda": {"channels": ["nvidia", "conda-forge"], "dependencies": ["numpy=1.26", "pip"]}},
            [("conda.channels[0]", None, "nvidia"), ("conda.channels[1]", "nvidia", None)],
        ),
        (
            {"conda": {"channels": ["conda-forge", "nvidia"], "dependencies": ["nvidia::numpy=1.26", "lightgbm"]}},
            [
                ("conda.dependencies", "numpy 1.26.*", "nvidia::numpy 1.26.*"),
                ("conda.dependencies", "pip", None),
                ("conda.dependencies", None, "lightgbm"),
            ],
        ),
        ({"pip": ["torch==2.1", "mlflow"]}, [("pip.requirements", "torch==2.0", "torch==2.1")]),
        ({"pip": [*PLAIN["pip"], "-c numpy<2", "--pre"]}, [("pip.constraints", None, "numpy<2"), ("pip.options", None, "--pre")]),
        ({"pip": []}, [("pip.requirements", "mlflow", None), ("pip.requirements", "torch==2.0", None)]),
        ({"cacheEpoch": 1}, [("cacheEpoch", "0", "1")]),
    ],
)  # fmt: skip
def test_what_differs_is_named(other: dict[str, Any], expected: list[tuple[str, Any, Any]]) -> None:
    assert expected == [tuple(each) for each in differences(read(), read(**other))]


@given(DEFINITIONS, DEFINITIONS)
def test_there_is_a_difference_exactly_where_the_keys_differ(one: Definition, other: Definition) -> None:
    """As far as keys tell: lists without an order are sorted in whatever was read."""
    one, other = _as_read(one), _as_read(other)

    assert (keys.definition_key(one) == keys.definition_key(other)) == (differences(one, other) == ())
    assert all(isinstance(each, Difference) and each.one != each.other for each in differences(one, other))


def _as_read(of: Definition) -> Definition:
    conda = of.conda and {"channels": of.conda["channels"], "dependencies": sorted(of.conda["dependencies"])}
    pip = of.pip and {"requirements": sorted(of.pip["requirements"])}
    return msgspec.structs.replace(
        of,
        conda=conda if conda and conda["dependencies"] else None,
        pip=pip if pip and pip["requirements"] else None,
        context_digest=of.context_digest or None,
    )
