"""Projects that look as Azure ML's own examples do, each converted to the manifest that lies beside it.

After a change that is meant, `python -m tests.support.azure_goldens` writes the manifests anew.
"""

import pytest

from tests.support import azure_goldens


@pytest.mark.parametrize("name", azure_goldens.names())
def test_a_look_alike_becomes_its_manifest(name: str) -> None:
    assert azure_goldens.expected(name) == azure_goldens.converted(name)


def test_a_look_alike_is_there_for_every_golden() -> None:
    assert {f"{name}.yaml" for name in azure_goldens.names()} == {path.name for path in azure_goldens.GOLDENS.iterdir()}
