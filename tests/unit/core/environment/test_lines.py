"""What a builder names is found where the user wrote it."""

from collections.abc import Mapping

import pytest

from stoker.core.environment.lines import place_of
from tests.support.build_envs import spec

FILE = "# ours\nscikit_learn>=1.0\nnumpy==99  # too new\n"
CONDA = "channels: [lab]\ndependencies:\n  - python=3.11\n  - pip:\n      - 'numpy==99'\n"


@pytest.mark.parametrize(
    ("where", "members", "files", "expected"),
    [
        ("pip.requirements[0]: numpy==99", {"pip": ["pandas", "NumPy == 99"]}, {}, "pip[1]: numpy==99"),
        ("pip.requirements[0]: scikit-learn>=1.0", {"pip": [], "pipFile": "r.txt"}, {"r.txt": FILE}, "r.txt:2: scikit-learn>=1.0"),
        ("pip.requirements[1]: numpy==99", {"pip": [], "condaFile": "c.yaml"}, {"c.yaml": CONDA}, "c.yaml:5: numpy==99"),
        ("pip.requirements[0]: numpy==99", {"pip": [], "conda": CONDA}, {}, "conda, line 5: numpy==99"),
        (
            "conda.dependencies[0]: numpy <1",
            {"pip": [], "conda": {"dependencies": ["python=3.11", "forge::numpy<1"]}},
            {},
            "conda.dependencies[1]: numpy <1",
        ),
        (
            "pip.requirements[0]: numpy==99",
            {"pip": [], "conda": {"dependencies": ["pip", {"pip": ["pandas", "numpy==99"]}]}},
            {},
            "conda.dependencies[1].pip[1]: numpy==99",
        ),
        ("pip.requirements[0]: unknown==1", {"pip": ["numpy"]}, {}, "pip.requirements[0]: unknown==1"),
        ("conda.channels[0]: lab", {"pip": []}, {}, "conda.channels[0]: lab"),
        ("dockerSteps[1]: RUN false", {"pip": ["numpy"]}, {}, "dockerSteps[1]: RUN false"),
    ],
)  # fmt: skip
def test_a_place_is_told_as_the_user_wrote_it(
    where: str, members: Mapping[str, object], files: Mapping[str, str | None], expected: str
) -> None:
    assert expected == place_of(where, spec(**members), files)
