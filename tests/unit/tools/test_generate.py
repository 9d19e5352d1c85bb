"""What is generated is kept up to date; what people wrote beside it is left alone."""

from pathlib import Path

import pytest

from tools import generate


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("docs/guarantees.md", False),
        ("docs/reference/output.md", False),
        ("charts/stoker/Chart.yaml", False),
        ("crds/things-of-old.yaml", True),
    ],
)
def test_only_what_nothing_renders_any_more_is_stale(tmp_path: Path, file: str, stale: bool) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("by hand")

    assert stale == (file in generate.drift(tmp_path))
