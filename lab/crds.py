"""CRDs of others, from Go modules that `lab/go/crds` pins: tests install them where the projects themselves do not run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from lab.binaries import SOURCES, go_command
from lab.host import LabError

#: The folder of each project's CRDs in its module.
FOLDERS = {
    "sigs.k8s.io/karpenter": "pkg/apis/crds",
    "sigs.k8s.io/cluster-api": "core/config/crd/bases",
}


def folder(module: str) -> Path:
    """Where a module's CRDs are, fetched if need be. Raises LabError when they cannot be."""
    command = [str(go_command(lambda line: None)), "mod", "download", "-json", module]
    done = subprocess.run(command, cwd=SOURCES / "crds", capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"cannot fetch {module}; is the Go module proxy reachable?\n{done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"]) / FOLDERS[module]
