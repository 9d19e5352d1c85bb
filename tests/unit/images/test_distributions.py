"""Which Python distributions a conda package brings, by its list of files."""

import pytest

from stoker.images.distributions import listed


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("site-packages/torch-2.3.1.dist-info/METADATA", {"torch": "2.3.1"}),
        ("lib/python3.11/site-packages/opencv_python-4.9.0.dist-info/METADATA", {"opencv-python": "4.9.0"}),
        ("lib/python3.11/site-packages/ruamel.yaml-0.18.6.dist-info/METADATA", {"ruamel-yaml": "0.18.6"}),
        ("site-packages/torch-2.3.1+cu121.dist-info/METADATA", {"torch": "2.3.1+cu121"}),
        ("site-packages/PyYAML-6.0-py3.11.egg-info", {"pyyaml": "6.0"}),
        ("site-packages/old-name-1.0-py3.11.egg-info/PKG-INFO", {"old-name": "1.0"}),
        ("site-packages/torch-2.3.1.dist-info/RECORD", {}),
        ("site-packages/torch/_vendor/packaging-21.0.dist-info/METADATA", {}),
        ("site-packages/torch-not.a.version.dist-info/METADATA", {}),
        ("share/doc/torch-2.3.1.dist-info/METADATA", {}),
    ],
)
def test_metadata_in_site_packages_names_a_distribution(path: str, expected: dict[str, str]) -> None:
    assert expected == listed([path])
