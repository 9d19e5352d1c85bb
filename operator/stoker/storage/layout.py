"""Where everything lies below a workspace's URL: names, written and read back. No I/O.

    snapshots/sha256/<hex>.zip, <hex>.manifest      the manifest is written last: there = complete
    jobs/<key>/job.json, result.json                the record of a job; each written once
    jobs/<key>/attempts/<n>/<rank>/{logs,outputs,metrics}/...
    jobs/<key>/attempts/<n>/<rank>/seal.json        the checked list of what that rank left
    jobs/<key>/removing.json                        while the run is being removed
    jobs/by-name/<name>                             which run took the name (runPolicy PerName)
    environments/<specKey>/build.log, lock.json     of the newest build of an image
    environments/<specKey>/tries/<moment>.log       of each of its tries, named by when it began
    environments/used/<hex>.json                    that a job used the image of that digest; written again now and then

A job's key is `<name>-<uid8>`; attempts count from 1, ranks from 0.
"""

import re
from dataclasses import dataclass

from stoker.core.environment import stored

JOBS = "jobs/"
BY_NAME = JOBS + "by-name/"
SNAPSHOTS = "snapshots/sha256/"

#: The folders that a rank may write to. Anything else below its prefix is the server's.
RANK_FOLDERS = ("logs", "outputs", "metrics")
STD_LOG = "logs/std_log.txt"
SEGMENTS = "logs/.segments/"

#: No name of an object may be longer: S3 allows 1,024 bytes of UTF-8.
MAX_KEY_BYTES = 1024

_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_TRY_LOG = re.compile(r"/tries/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z\.log\Z", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")
_JOB_KEY = re.compile(r"(?P<name>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)-(?P<uid8>[0-9a-f]{8})\Z")
_RANK_KEY = re.compile(
    r"jobs/(?P<job>[^/]+)/attempts/(?P<attempt>[1-9][0-9]*)/(?P<rank>0|[1-9][0-9]*)/(?P<path>.+)\Z", re.S
)
_USED = re.compile(r"environments/(?:used/(?P<digest>[0-9a-f]{64})\.json|(?P<spec>[0-9a-f]{64})/.+)\Z")
_SEGMENT = re.compile(r"logs/\.segments/(?P<offset>[0-9]{16})\Z")


class LayoutError(ValueError):
    """A name that the layout does not know; the message names it."""


@dataclass(frozen=True, slots=True)
class RankKey:
    """An object below a rank's prefix: which job, attempt and rank, and its path relative to the prefix."""

    job: str
    attempt: int
    rank: int
    path: str


def digest_hex(digest: str) -> str:
    """The 64 hex digits of `sha256:<hex>`; raises LayoutError on anything else."""
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not _HEX64.match(value):
        raise LayoutError(f"{digest!r} is not a digest; it looks like sha256:<64 hex digits>")
    return value


def snapshot_zip(digest: str) -> str:
    return f"{SNAPSHOTS}{digest_hex(digest)}.zip"


def snapshot_manifest(digest: str) -> str:
    return f"{SNAPSHOTS}{digest_hex(digest)}.manifest"


def job_key(name: str, uid: str) -> str:
    """The key of a job: its name and the first 8 hex digits of its uid. Raises LayoutError on a bad name or uid."""
    uid8 = uid.replace("-", "")[:8].lower()
    key = f"{name}-{uid8}"
    if not _NAME.match(name):
        raise LayoutError(f"{name!r} is not a job's name; use lower-case letters, digits, `-` and `.`")
    if not re.fullmatch(r"[0-9a-f]{8}", uid8):
        raise LayoutError(f"{uid!r} is not a uid; it starts with 8 hex digits")
    return key


def split_job_key(key: str) -> tuple[str, str]:
    """The name and uid8 of a key; raises LayoutError."""
    match = _JOB_KEY.match(key)
    if match is None:
        raise LayoutError(f"{key!r} is not the key of a job; it looks like <name>-<8 hex digits>")
    return match["name"], match["uid8"]


def is_job_key(key: str) -> bool:
    return _JOB_KEY.match(key) is not None


def job_prefix(key: str) -> str:
    split_job_key(key)
    return f"{JOBS}{key}/"


def job_record(key: str) -> str:
    return job_prefix(key) + "job.json"


def job_result(key: str) -> str:
    return job_prefix(key) + "result.json"


def job_removing(key: str) -> str:
    """The note that a run is being removed: there from before the first of its objects goes until after the last."""
    return job_prefix(key) + "removing.json"


def environment_prefix(spec_key: str) -> str:
    """The folder of an environment's traces; raises LayoutError."""
    if not _HEX64.match(spec_key):
        raise LayoutError(f"{spec_key!r} is not a specKey; it has 64 hex digits")
    return f"{stored.ENVIRONMENTS}{spec_key}/"


def build_log(spec_key: str) -> str:
    """The log of the newest build; raises LayoutError."""
    return environment_prefix(spec_key) + stored.BUILD_LOG


def try_log(spec_key: str, began: str) -> str:
    """The log of one try. began: RFC 3339, in whole seconds of UTC. Raises LayoutError."""
    key = f"{try_logs(spec_key)}{began.replace('-', '').replace(':', '')}.log"
    if not _TRY_LOG.search(key):
        raise LayoutError(f"{began!r} is not a moment such as 2026-01-02T03:04:05Z")
    return key


def began_of(key: str) -> str:
    """When the try began whose log lies there (RFC 3339); empty for another key."""
    found = _TRY_LOG.search(key)
    return "{}-{}-{}T{}:{}:{}Z".format(*found.groups()) if found else ""


def try_logs(spec_key: str) -> str:
    """The folder of all tries' logs; raises LayoutError."""
    return environment_prefix(spec_key) + stored.TRIES


def lock(spec_key: str) -> str:
    """The packages of the image that it made; raises LayoutError."""
    return environment_prefix(spec_key) + stored.LOCK


def used(digest: str) -> str:
    """That an image is used; raises LayoutError."""
    return f"{stored.USED}{digest_hex(digest)}.json"


def used_word(key: str) -> str:
    """What an object below environments/ tells the last use of: a digest or a specKey in hex; empty for none."""
    match = _USED.match(key)
    return match["digest"] or match["spec"] if match is not None else ""


def by_name(name: str) -> str:
    if not _NAME.match(name):
        raise LayoutError(f"{name!r} is not a job's name; use lower-case letters, digits, `-` and `.`")
    return BY_NAME + name


def attempts_prefix(key: str) -> str:
    return job_prefix(key) + "attempts/"


def rank_prefix(key: str, attempt: int, rank: int) -> str:
    """The folder of one rank, with a `/` at its end; raises LayoutError on attempt < 1 or rank < 0."""
    if attempt < 1 or rank < 0:
        raise LayoutError(f"attempt {attempt}, rank {rank}: attempts count from 1 and ranks from 0")
    return f"{attempts_prefix(key)}{attempt}/{rank}/"


def seal(key: str, attempt: int, rank: int) -> str:
    return rank_prefix(key, attempt, rank) + "seal.json"


def std_log(key: str, attempt: int, rank: int) -> str:
    return rank_prefix(key, attempt, rank) + STD_LOG


def segments_prefix(key: str, attempt: int, rank: int) -> str:
    return rank_prefix(key, attempt, rank) + SEGMENTS


def segment(key: str, attempt: int, rank: int, offset: int) -> str:
    """The live piece of the log whose first byte is byte `offset` of the whole."""
    return f"{segments_prefix(key, attempt, rank)}{segment_name(offset)}"


def segment_name(offset: int) -> str:
    if not 0 <= offset < 10**16:
        raise LayoutError(f"{offset} is not an offset in a log")
    return f"{offset:016d}"


def segment_offset(path: str) -> int | None:
    """The offset that a path below a rank's prefix names, None if it is no piece of a log."""
    match = _SEGMENT.match(path)
    return int(match["offset"]) if match else None


def parse_rank_key(key: str) -> RankKey | None:
    """What an object's key says, None if it does not lie below a rank's prefix."""
    match = _RANK_KEY.match(key)
    if match is None or not is_job_key(match["job"]):
        return None
    return RankKey(match["job"], int(match["attempt"]), int(match["rank"]), match["path"])


def rank_path_problem(path: str) -> str | None:
    """Why a rank may not write `path` (relative to its prefix), or None.

    Only files below logs/, outputs/ and metrics/, with ordinary parts: a signed URL must not reach anything else.
    """
    folder, _, rest = path.partition("/")
    if folder not in RANK_FOLDERS or not rest:
        return f"a rank writes only below {', '.join(name + '/' for name in RANK_FOLDERS)}"
    if problem := key_problem(path):
        return problem
    if path.startswith(SEGMENTS) and segment_offset(path) is None:
        return f"a piece of the log is named {SEGMENTS}<16 digits>"
    return None


def key_problem(key: str) -> str | None:
    """Why a text may not be the name of an object, or None: the same rule for every store."""
    if not key or key.startswith("/"):
        return "the name is empty or absolute"
    if any(part in ("", ".", "..") for part in key.split("/")):
        return "the name has an empty, `.` or `..` part"
    if any(ord(character) < 32 or ord(character) == 127 for character in key) or "\\" in key:
        return "the name has a backslash or a control character"
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "the name is not valid Unicode"
    if size > MAX_KEY_BYTES:
        return f"the name is longer than {MAX_KEY_BYTES} bytes"
    return None
