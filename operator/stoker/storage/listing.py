"""Which files of a folder go into its snapshot, which stay at home, and which line decided.

Order of the rules: `.git` and `.stoker` never go; then the ignore file and the patterns given beside it; then the
names that usually hold a secret.
"""

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stoker.errors import EXIT_USAGE, StokerError
from stoker.runtime.wire import chain_problem, link_problem, path_problem
from stoker.storage import secret_files
from stoker.storage.ignore import NOT_IGNORED, Decision, Rules

AMLIGNORE, GITIGNORE = ".amlignore", ".gitignore"
BUILT_IN = "built in"

#: Folders that hold Stoker's and git's own things; at any depth.
_NEVER = {".git": ".git/", ".stoker": ".stoker/"}
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./")
#: Folders that are nearly always there by accident, and what to say about them.
_SUSPECT = {
    ".venv": "a virtual environment",
    "venv": "a virtual environment",
    "mlruns": "MLflow's runs",
    "wandb": "Weights & Biases' runs",
}


class SnapshotError(StokerError):
    """The folder cannot be a snapshot as it is; the message names the path and the fix."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class File:
    """A file or link that goes. path: as in the manifest (NFC, `/`). size: bytes, of a link's target its text.
    name_on_disk: relative to the root as the system spells it, when that differs from the path."""

    path: str
    size: int
    executable: bool = False
    target: str = ""
    name_on_disk: str = ""
    status: tuple[int, int, int, int] = (0, 0, 0, 0)  # mtime ns, ctime ns, size, inode

    @property
    def on_disk(self) -> str:
        return self.name_on_disk or self.path


@dataclass(frozen=True, slots=True)
class Skipped:
    """What does not go. path: a folder that is left out whole ends in `/`. rule: the pattern, or the reason in words.
    source: `<file>:<line number>`, or `built in`."""

    path: str
    rule: str
    source: str


@dataclass(frozen=True)
class Listing:
    """What a scan found; files and skipped are sorted by the UTF-8 bytes of their paths. warnings: sentences."""

    root: Path
    files: tuple[File, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    def largest(self, count: int = 10) -> tuple[File, ...]:
        """The biggest files, the biggest first."""
        return tuple(sorted(self.files, key=lambda file: (-file.size, file.path))[:count])


def read_rules(root: Path, extra_ignore: Sequence[str] = ()) -> Rules:
    """The rules for a folder: `.amlignore` in its root if there is one, else `.gitignore`; then the extra patterns.

    Raises SnapshotError when the file cannot be read: to take it for empty would send what it holds back.
    """
    rules = Rules()
    for name in (AMLIGNORE, GITIGNORE):
        path = root / name
        if path.is_file():
            try:
                text = path.read_bytes().decode("utf-8", "surrogateescape")
            except OSError as error:
                raise SnapshotError(f"{path}: {error.strerror}; the ignore file must be readable") from error
            rules = Rules.parse(text, name)
            break
    return rules.then(Rules.parse("\n".join(extra_ignore), "--ignore"))


@dataclass
class _Scan:
    root: Path
    rules: Rules
    allowed: Rules
    files: list[File] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def folder(self, relative: str, on_disk: str) -> None:
        for entry in self._entries(on_disk):
            name = unicodedata.normalize("NFC", entry.name)
            path = f"{relative}/{name}" if relative else name
            disk_path = f"{on_disk}/{entry.name}" if on_disk else entry.name
            is_dir = entry.is_dir(follow_symlinks=False)
            decision = self.decide(path, is_dir)
            if decision.ignored:
                self.skipped.append(
                    Skipped(_shown(path) + "/" * is_dir, decision.line or "", decision.source or BUILT_IN)
                )
            elif is_dir and not _is_junction(entry):
                self._warn(path, name)
                self.folder(path, disk_path)
            else:
                self._file(entry, path, disk_path)

    @property
    def ignore_file(self) -> str:
        return AMLIGNORE if (self.root / AMLIGNORE).is_file() else GITIGNORE

    def decide(self, path: str, is_dir: bool) -> Decision:
        """For a path below folders that go."""
        if never := _NEVER.get(path.rpartition("/")[2].casefold()):
            return Decision(True, never, BUILT_IN)
        decision = self.rules.decide_below(path, is_dir)
        if decision.ignored:
            return decision
        pattern = secret_files.which(path, is_dir)
        if pattern is not None and not self.allowed.decide(path, is_dir).ignored:
            return Decision(True, secret_files.RULE, f"{BUILT_IN}: {pattern}")
        return decision

    def _entries(self, on_disk: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / on_disk if on_disk else self.root) as entries:
                yield from entries
        except OSError as error:
            raise SnapshotError(f"{_shown(on_disk) or '.'}: {error.strerror}; make it readable or ignore it") from error

    def _warn(self, path: str, name: str) -> None:
        if (what := _SUSPECT.get(name)) is not None:
            self.warnings.append(
                f"{path}/ is sent, and looks like {what}: put {name}/ into {self.ignore_file} to leave it out"
            )

    def _file(self, entry: os.DirEntry[str], path: str, disk_path: str) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            raise SnapshotError(f"{_shown(path)}: {error.strerror}") from error
        # Most paths are plain ASCII and need no closer look; this is a tenth of a scan's time.
        if not _PLAIN.issuperset(path) and (problem := path_problem(path)):
            raise SnapshotError(f"{_shown(path)!r}: {problem}; rename it or ignore it")
        spelled = "" if disk_path == path else disk_path
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        if stat.S_ISLNK(status.st_mode):
            target = self._target(path, disk_path)
            self.files.append(File(path, len(target.encode()), target=target, name_on_disk=spelled, status=stamp))
        elif stat.S_ISREG(status.st_mode) and not _is_junction(entry):
            executable = _executable(entry, status.st_mode)
            self.files.append(File(path, status.st_size, executable, name_on_disk=spelled, status=stamp))
        else:
            self.skipped.append(Skipped(path, f"not a file, folder or link ({_kind(status.st_mode)})", BUILT_IN))

    def _target(self, path: str, disk_path: str) -> str:
        link = self.root / disk_path
        try:
            target = unicodedata.normalize("NFC", os.readlink(link))
        except OSError as error:
            raise SnapshotError(f"{path}: {error.strerror}") from error
        if os.name == "nt":
            target = target.replace("\\", "/")
        problem = link_problem(path, target)
        if problem is None and not _lies_in(Path(os.path.realpath(link)), Path(os.path.realpath(self.root))):
            problem = "the link leaves the tree"
        try:
            target.encode()
        except UnicodeEncodeError:
            problem = "the link's target is not valid Unicode"
        if problem:
            if environment := self._virtual_environment(disk_path):
                raise SnapshotError(
                    f"{environment}/ is a virtual environment, which runs nowhere else ({path} -> {_shown(target)}); "
                    f"put the line {environment.rpartition('/')[2]}/ into {self.ignore_file}, or use --ignore"
                )
            raise SnapshotError(
                f"{path} -> {_shown(target)}: {problem}; a link must be relative and point into the folder: "
                f"copy the target here, or ignore the link"
            )
        return target

    def _virtual_environment(self, disk_path: str) -> str:
        """The folder above a path that is a venv, or empty."""
        above = disk_path.rpartition("/")[0]
        while above and not (self.root / above / "pyvenv.cfg").is_file():
            above = above.rpartition("/")[0]
        return above


def scan(
    root: Path | str, *, extra_ignore: Sequence[str] = (), allow_secrets: Sequence[str] = (), everything: bool = False
) -> Listing:
    """What of a folder goes into its snapshot.

    extra_ignore: patterns after those of the ignore file. allow_secrets: patterns for files that look like keys and
    shall go all the same. everything: no ignore file is read and nothing looks like a key (a folder of data). Raises
    SnapshotError for a link out of the folder, names that clash elsewhere, names that no other system could take, and
    what cannot be read.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise SnapshotError(f"{folder}: not a folder")
    rules = Rules.parse("\n".join(extra_ignore), "--ignore") if everything else read_rules(folder, extra_ignore)
    allowed = Rules.parse("*" if everything else "\n".join(allow_secrets), "--allow-secret")
    work = _Scan(folder, rules, allowed)
    work.folder("", "")
    files = tuple(sorted(work.files, key=lambda file: file.path.encode()))
    _check_clashes(files)
    if problem := chain_problem({file.path: file.target for file in files if file.target}):
        raise SnapshotError(f"{problem}; remove the link or ignore it")
    skipped = tuple(sorted(work.skipped, key=lambda one: one.path.encode("utf-8", "surrogateescape")))
    return Listing(folder, files, skipped, tuple(sorted(work.warnings)))


def explain(
    root: Path | str, path: str, *, extra_ignore: Sequence[str] = (), allow_secrets: Sequence[str] = ()
) -> Decision:
    """Whether one path would stay at home, and which line decides. path: relative to the root; it need not exist (it
    is a folder if it is one or ends in `/`). Raises SnapshotError for a path outside the root."""
    folder = Path(root)
    relative = os.path.normpath(path).replace(os.sep, "/")
    if relative == ".":
        return NOT_IGNORED
    if os.path.isabs(path) or relative.startswith("../") or relative == "..":
        raise SnapshotError(f"{path}: not below {folder}; give a path relative to it")
    work = _Scan(folder, read_rules(folder, extra_ignore), Rules.parse("\n".join(allow_secrets), "--allow-secret"))
    parts = unicodedata.normalize("NFC", relative).split("/")
    for end in range(1, len(parts) + 1):
        here = "/".join(parts[:end])
        on_disk = folder / here
        is_dir = end < len(parts) or path.endswith("/") or (on_disk.is_dir() and not on_disk.is_symlink())
        decision = work.decide(here, is_dir)
        if decision.ignored:
            return decision
    return decision


def _check_clashes(files: Sequence[File]) -> None:
    """Raises SnapshotError for two paths that another system would take for one."""
    seen: dict[str, File] = {}
    for file in files:
        other = seen.setdefault(file.path.casefold(), file)
        if other is file:
            continue
        if other.path == file.path:
            raise SnapshotError(
                f"{file.path}: two names here differ only in how Unicode spells them ({other.on_disk!a}, "
                f"{file.on_disk!a}); rename or ignore one"
            )
        raise SnapshotError(f"{other.path} and {file.path} differ only by case; rename or ignore one")
    checked: set[str] = set()
    for file in files:
        above = file.path.rpartition("/")[0]
        while above and above not in checked:
            checked.add(above)
            if (clash := seen.get(above.casefold())) is not None:
                raise SnapshotError(f"{clash.path} and the folder {above}/ differ only by case; rename or ignore one")
            above = above.rpartition("/")[0]


def _executable(entry: os.DirEntry[str], mode: int) -> bool:
    if os.name != "nt":
        return bool(mode & stat.S_IXUSR)
    # Windows has no such bit: a file that starts as a script does is one.
    with open(entry.path, "rb") as file:
        return file.read(2) == b"#!"


def _is_junction(entry: os.DirEntry[str]) -> bool:
    if os.name != "nt":
        return False
    status = entry.stat(follow_symlinks=False)
    return getattr(status, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)


def _kind(mode: int) -> str:
    for name, holds in (("FIFO", stat.S_ISFIFO), ("socket", stat.S_ISSOCK), ("block device", stat.S_ISBLK)):
        if holds(mode):
            return name
    return "character device" if stat.S_ISCHR(mode) else "junction"


def _lies_in(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _shown(path: str) -> str:
    """A path that can be printed whatever bytes it holds."""
    return path.encode("utf-8", "backslashreplace").decode()
