"""CRDs of others, from Go modules that `lab/go/crds` pins: tests install them where the projects themselves do not run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab.binaries import SOURCES, go_command
from lab.host import LabError

if TYPE_CHECKING:
    from lab.lab import Lab


def module(name: str) -> Path:
    """The folder of a Go module, fetched if need be. Raises LabError when it cannot be."""
    command = [str(go_command(lambda line: None)), "mod", "download", "-json", name]
    done = subprocess.run(command, cwd=SOURCES / "crds", capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"cannot fetch {name}; is the Go module proxy reachable?\n{done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])


@contextmanager
def installed(lab: Lab, files: Sequence[Path]) -> Iterator[None]:
    """These CRDs are served while the block runs; when it ends well, they go with all their objects."""
    for file in files:
        lab.kubectl("apply", "--server-side", "-f", str(file))
    for file in files:
        lab.established("-f", str(file))
    yield
    for file in files:
        lab.kubectl("delete", "-f", str(file), "--ignore-not-found")
