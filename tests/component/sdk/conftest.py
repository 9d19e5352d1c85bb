"""A project of its own, and a cluster that the test plays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.played_cluster import PlayedCluster, played_cluster

TRAIN = """import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
given = parser.parse_args()
print(f"lr {given.lr}", flush=True)
pathlib.Path("outputs/model.txt").write_text(str(given.lr))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script in src, the current one; a cache of its own, and no cluster."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "train.py").write_text(TRAIN)
    monkeypatch.chdir(folder)
    for name in ("KUBERNETES_SERVICE_HOST", "STOKER_SERVER", "STOKER_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def played(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedCluster]:
    """A cluster in which one may edit, that the current variables lead to."""
    (tmp_path / "cluster").mkdir()
    with played_cluster(tmp_path / "cluster") as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        yield cluster
