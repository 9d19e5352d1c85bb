"""Empties a folder of a node and proves it: what one job left there must not meet the next.

Nothing is followed out of the folder: links are removed, not followed, and what is mounted inside is not touched, so that
the proof fails and says so.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys

#: What is told of names that are left, and their number.
_MOST_NAMES, _LONGEST_NAME = 3, 60
#: Where a pod's last words go, for whoever reads its status.
_LAST_WORDS = "/dev/termination-log"


def main(arguments: list[str]) -> int:
    """0: the folder is empty, and that is on disk. 1: it is not, and why."""
    parser = argparse.ArgumentParser(prog="stoker-agent scrub")
    parser.add_argument("--path", required=True, help="the folder")
    parser.add_argument("--called", default="", help="what it is called on the node")
    parser.add_argument("--last-words", default=_LAST_WORDS)
    flags = parser.parse_args(arguments)
    called = flags.called or flags.path
    try:
        removed, failures = empty(flags.path)
        left = proof(flags.path)
    except OSError as error:
        return _say(1, f"{called} cannot be looked into: {error.strerror or error}", flags.last_words)
    if not left:
        return _say(0, f"{called} is empty: {removed} files and folders were removed", flags.last_words)
    names = ", ".join(repr(name[:_LONGEST_NAME]) for name in left[:_MOST_NAMES])
    why = f"; {failures[0]}" if failures else ""
    return _say(1, f"{len(left)} entries are left in {called}, such as {names}{why}", flags.last_words)


def empty(path: str) -> tuple[int, list[str]]:
    """Remove everything below a folder; how many files and folders went, and what could not be removed."""
    failures: list[str] = []
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _empty(top, os.fstat(top).st_dev, failures), failures
    finally:
        os.close(top)


def proof(path: str) -> list[str]:
    """What is still in a folder, once what was removed has reached the disk."""
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(top)
        return sorted(os.listdir(top))
    finally:
        os.close(top)


def _empty(top: int, device: int, failures: list[str]) -> int:
    """Without recursion, and with two folders open at a time: a tree may be deeper than either would allow.

    A folder that has folders in it gives them to the top first, under names of their own, so that none is ever deeper
    than one below it.
    """
    removed = number = 0
    # Nobody can have taken these names beforehand.
    prefix = f".{os.urandom(8).hex()}-"
    spared: set[str] = set()
    while True:
        entries = [name for name in os.listdir(top) if name not in spared]
        if not entries:
            return removed
        for name in entries:
            try:
                if not _is_folder(top, name):
                    os.unlink(name, dir_fd=top)
                    removed += 1
                    continue
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    if os.fstat(inner).st_dev != device:
                        raise OSError(0, "another file system is mounted there: unmount it")
                    gone, number = _flatten(top, inner, prefix, number)
                finally:
                    os.close(inner)
                removed += gone
                os.rmdir(name, dir_fd=top)
                removed += 1
            except OSError as error:
                spared.add(name)
                failures.append(f"{name[:_LONGEST_NAME]!r}: {error.strerror or error}")


def _flatten(top: int, folder: int, prefix: str, number: int) -> tuple[int, int]:
    """Remove a folder's files and move its folders to the top; how many went, and the last number that was used there."""
    removed = 0
    for name in os.listdir(folder):
        if not _is_folder(folder, name):
            os.unlink(name, dir_fd=folder)
            removed += 1
            continue
        number += 1
        os.rename(name, f"{prefix}{number}", src_dir_fd=folder, dst_dir_fd=top)
    return removed, number


def _is_folder(within: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)


def _say(code: int, words: str, last_words: str) -> int:
    print(words, file=sys.stderr if code else sys.stdout, flush=True)
    try:
        with open(last_words, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(words)
    except OSError as error:
        print(f"cannot write {last_words}: {error}", file=sys.stderr)
    return code
