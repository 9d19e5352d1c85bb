"""Whatever somebody writes into an Environment, reading it takes a moment: the operator reads it on its only thread."""

import contextlib
import time
from typing import Any

import msgspec
import pytest

from stoker.api.environment import EnvironmentSpec
from stoker.core.environment import definition
from stoker.core.environment.definition import BadDefinition

#: Of this thread's CPU; each takes a fifth of it at most here.
MOST_SECONDS = 3.0


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ({"dockerSteps": ["RUN " + "a" * 32000] * 16}, {}),
        ({"dockerSteps": ["RUN " + "https://a" * 3000]}, {}),
        ({"dockerSteps": ["RUN " + "<<a " * 8000]}, {}),
        ({"dockerSteps": ["RUN " + "--mount=type=cache,target=/a " * 1000 + "x"]}, {}),
        ({"pip": ["numpy>=1"] * 1024}, {}),
        ({"pipFile": "a.txt"}, {f"{name}.txt": f"-r {after}.txt\n" * 200 for name, after in zip("abcdefgh", "bcdefgha", strict=True)}),
        ({"pip": ["a" * 8000 + "[" * 100]}, {}),
        ({"conda": {"dependencies": [f"package{number}>=1,<2" for number in range(1000)]}}, {}),
        ({"conda": "dependencies: [" + "numpy, " * 4000 + "pip]"}, {}),
        ({"conda": "a" * 300000}, {}),
        ({"conda": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\ne: [*d, *d]\ndependencies: [a]"}, {}),
    ],
)  # fmt: skip
def test_reading_takes_a_moment(spec: dict[str, Any], files: dict[str, str | None]) -> None:
    value = msgspec.convert({"image": "a:1", **spec}, EnvironmentSpec)
    begun = time.thread_time()

    with contextlib.suppress(BadDefinition):
        definition.read(value, files)

    assert time.thread_time() - begun < MOST_SECONDS


def test_files_that_name_each_other_are_read_once() -> None:
    spec = msgspec.convert({"image": "a:1", "pipFile": "a.txt"}, EnvironmentSpec)

    found = definition.read(spec, {"a.txt": "-r b.txt\nnumpy\n", "b.txt": "-r a.txt\n-c a.txt\ntorch\n"})

    assert {"requirements": ["numpy", "torch"], "constraints": ["numpy", "torch"]} == found.pip
