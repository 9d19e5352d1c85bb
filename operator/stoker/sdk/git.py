"""What Git knows of a code folder, for the record. Nothing here changes a repository, and no Git is no error."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from stoker.core.gitstate import MOST_DIFF, GitState

#: A repository on a slow disk must not hold up a submission (seconds).
_PATIENCE = 5
#: Names that one call of Git takes.
_MOST_NAMES = 200


def state_of(folder: Path, sent: Iterable[str]) -> GitState | None:
    """The commit of the folder's repository and how the files that are sent differ from it. sent: their paths below the folder.
    None where there is no repository, no commit or no Git."""
    if shutil.which("git") is None:
        return None
    commit = (_git(folder, "rev-parse", "--verify", "HEAD") or "").strip()
    if not commit:
        return None
    names = set(sent)
    changed = set(_names(folder, "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD", "--", ".")) & names
    unknown = set(_names(folder, "ls-files", "--others", "-z", "--", ".")) & names
    if not changed and not unknown:
        return GitState(commit)
    shown = sorted(changed)[:_MOST_NAMES]
    text = (
        _git(folder, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--relative", "HEAD", "--", *shown) or ""
    )
    lines = [f"not in the commit: {name}\n" for name in sorted(unknown)[:_MOST_NAMES]]
    return GitState(commit, True, ("".join(lines) + (text if shown else ""))[:MOST_DIFF])


def _names(folder: Path, *words: str) -> list[str]:
    return [name for name in (_git(folder, *words) or "").split("\0") if name]


def _git(folder: Path, *words: str) -> str | None:
    """What Git prints; None where it fails or takes too long."""
    # No optional locks, no prompts, no pager: a submission leaves a repository as it was.
    command = [
        "git",
        "--no-optional-locks",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.quotepath=false",
        "-C",
        str(folder),
    ]
    try:
        done = subprocess.run([*command, *words], capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
