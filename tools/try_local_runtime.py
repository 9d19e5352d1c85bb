"""Run a job in a container of a real docker or podman, and check what a local run promises of it.

    python tools/try_local_runtime.py podman [--image IMAGE]

Without --image one is made of this machine's `sh`: no registry is asked. Prints a line for each promise; exits with 1 when
one does not hold.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

IMAGE = "localhost/stoker-try:1"
PROGRAMS = ("sh", "cat", "env", "id", "sleep")


def make_image(tool: str, folder: Path) -> None:
    """An image with a shell and what it needs, from this machine's own files."""
    place = folder / "root.tar"
    with tarfile.open(place, "w") as archive:
        for name in PROGRAMS:
            program = shutil.which(name)
            if program is None:
                raise SystemExit(f"this machine has no {name}")
            archive.add(os.path.realpath(program), f"bin/{name}")
            listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
            for library in re.findall(r"/lib\S+", listed):
                if library.lstrip("/") not in archive.getnames():
                    archive.add(os.path.realpath(library), library.lstrip("/"))
    subprocess.run(
        [tool, "import", str(place), IMAGE], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


class Project:
    """A folder with a job, run by the stoker beside this Python."""

    def __init__(self, tool: str, folder: Path) -> None:
        self.tool, self.folder = tool, folder

    def start(self, command: str) -> "subprocess.Popen[str]":
        job = {
            "command": command,
            "environment": {"image": self.image},
            "environment_variables": {"GREETING": "hello you"},
        }
        (self.folder / "job.yaml").write_text(json.dumps(job))
        return subprocess.Popen(
            [sys.executable, "-m", "stoker.cli", "run", "--local-runtime", self.tool], cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "KUBECONFIG": os.devnull},
            # Whoever runs this in the background has Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    image = IMAGE

    def newest(self, name: str) -> dict:
        found = max((self.folder / ".stoker" / "jobs").glob(f"*-*/{name}"), key=lambda path: path.stat().st_mtime)
        return json.loads(found.read_text())

    def outputs(self) -> set[str]:
        return {Path(one["path"]).name for one in self.newest("result.json")["outputs"]}

    def left(self) -> list[str]:
        words = [self.tool, "ps", "--all", "--format", "{{.Names}}"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        return [name for name in listed if name.startswith("stoker-")]


def promises(project: Project) -> dict[str, bool]:
    """What was asked, and whether it holds."""
    run = project.start("echo $GREETING; id -u; echo $GREETING > outputs/copied; exit 7")
    out, err = run.communicate()
    print(err, file=sys.stderr)
    held = {
        "the exit code is the command's own": run.returncode == 7,
        "the job's variables are there, and the user is who runs stoker": out.split("\n")[:2] == ["hello you", str(os.getuid())],
        "outputs are saved": project.outputs() == {"copied"},
        "the record has the image's digest": project.newest("job.json")["image"]["digest"].startswith("sha256:"),
        "no container is left": project.left() == [],
    }  # fmt: skip
    run = project.start("trap 'echo so > outputs/stopped; exit 9' INT TERM; echo up; sleep 600 & wait")
    assert run.stdout is not None
    up = run.stdout.readline()
    begun = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    print(err, file=sys.stderr)
    print(f"Ctrl-C to the end: {time.monotonic() - begun:.1f} s", file=sys.stderr)
    return held | {
        "Ctrl-C reaches the command, and what it wrote is saved": up == "up\n" and project.outputs() == {"stopped"},
        "a cancelled run ends with 130": run.returncode == 130,
        "no container is left after Ctrl-C": project.left() == [],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", choices=("docker", "podman"))
    parser.add_argument("--image", help="an image with sh, cat, id and sleep; else one is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "project")
        folder.mkdir()
        project = Project(arguments.tool, folder)
        if arguments.image:
            project.image = arguments.image
        else:
            make_image(arguments.tool, Path(name))
        held = promises(project)
    for promise, holds in held.items():
        print(f"{'holds' if holds else 'FAILS'}  {promise}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
