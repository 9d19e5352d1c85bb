"""The command line as its users call it: a process of its own, in a folder and a cache of its own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _as_from_a_terminal() -> None:
    """Whoever runs the tests in the background makes them ignore Ctrl-C, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Cli:
    """`stoker …` in a folder. env: on top of a plain environment without proxy, kubeconfig or settings of the host.
    within: words before the command."""

    folder: Path
    cache: Path
    env: dict[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "STOKER_SERVER", "STOKER_DIR"):
            kept.pop(name, None)
        own = {"XDG_CACHE_HOME": str(self.cache), "HOME": str(self.cache), "COLUMNS": "120"}
        return {**kept, **own, **self.env}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it and leave it running."""
        return subprocess.Popen(
            [*self.within, sys.executable, "-P", "-m", "stoker.cli", *arguments],
            cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=_as_from_a_terminal,
        )  # fmt: skip

    def __call__(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run it to its end; another exit code than `code` is a failure of the test."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert code == process.returncode, f"stoker {' '.join(arguments)}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What it prints with `-o json`."""
        return json.loads(self(*arguments, "-o", "json", code=code).stdout)

    def write(self, **files: str) -> None:
        """Files of the folder by name; `__` in a name stands for a dot."""
        for name, text in files.items():
            (self.folder / name.replace("__", ".")).write_text(text)
