"""Broken definitions of environments: `bad_environments/NAME/env.yaml` with the files that it names."""

from pathlib import Path

FOLDER = Path(__file__).parent / "bad_environments"
GOLDEN = Path(__file__).parent / "bad_environments.txt"


def names() -> list[str]:
    """All of them."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def golden() -> dict[str, list[str]]:
    """What is said of each: lines of the CLI, and below `in the cluster:` those of a condition where they differ."""
    said: dict[str, list[str]] = {}
    name = ""
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("== "):
            name = line.removeprefix("== ")
            said[name] = []
        elif line:
            said[name].append(line)
    return said
