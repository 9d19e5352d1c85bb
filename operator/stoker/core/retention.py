"""What a store need not keep any longer, run by run and snapshot by snapshot, and why.

Runs. One that has not finished, or whose object still exists, stays. Of the finished ones of an experiment (those without
one are a group of their own) the newest `keep_last` stay, and so do those that ended within `keep_days`; with both set
only a run that neither of them keeps goes; with neither set none goes. A run that a former removal left half done goes.

Snapshots, by mark and sweep. One that a kept run's record or an existing object names stays, and so does every one that
was written within the grace: an upload may precede its job. When a kept record cannot be read, nobody knows what it
names, so no snapshot goes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

DAY = 86_400.0
#: A snapshot written so recently (seconds) may belong to a job that is still to come.
GRACE = DAY


@dataclass(frozen=True, slots=True)
class Policy:
    """keep_last: so many finished runs of each experiment. keep_days: those that ended within so many days. None: not
    asked about."""

    keep_last: int | None = None
    keep_days: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its stored record tells it. finished_at: seconds since the epoch, None without a result. snapshots: the
    digests that its record names. removing: a removal of it was begun. readable: whether all that the record names is known."""

    key: str
    experiment: str | None = None
    finished_at: float | None = None
    snapshots: frozenset[str] = frozenset()
    removing: bool = False
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stored snapshot. modified: when it was last written, seconds since the epoch. size: bytes."""

    digest: str
    modified: float
    size: int = 0


@dataclass(frozen=True, slots=True)
class Going:
    """What goes: a run's key or a snapshot's digest, its bytes, and why."""

    what: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, each sorted by name. held: why no snapshot was looked at, empty when they were."""

    runs: tuple[Going, ...] = ()
    snapshots: tuple[Going, ...] = ()
    held: str = ""

    @property
    def size(self) -> int:
        """Bytes of all that goes."""
        return sum(one.size for one in (*self.runs, *self.snapshots))


@dataclass(frozen=True, slots=True)
class Report:
    """What was removed. at: seconds since the epoch. runs: keys. snapshots: how many. size: bytes of all. held: why no
    snapshot was looked at, empty when they were."""

    at: float
    runs: tuple[str, ...] = ()
    snapshots: int = 0
    size: int = 0
    held: str = ""


def but(found: Plan, live: Collection[str], named: Collection[str]) -> Plan:
    """The plan without what exists, or is named, by now: time passes between a plan and its doing."""
    return replace(
        found,
        runs=tuple(one for one in found.runs if one.what not in live),
        snapshots=tuple(one for one in found.snapshots if one.what not in named),
    )


def plan(
    runs: Collection[Run],
    snapshots: Iterable[Snapshot],
    policy: Policy,
    now: float,
    *,
    live: Collection[str] = frozenset(),
    named: Collection[str] = frozenset(),
) -> Plan:
    """What goes at `now`. live: keys of runs whose object exists or whose process runs. named: digests that existing
    objects name. The bytes of runs are left at 0: who removes them counts them."""
    places = _places(runs)
    going = {run.key: reason for run in runs if (reason := _why_run(run, policy, places, now, live))}
    kept = [run for run in runs if run.key not in going]
    gone = tuple(Going(key, 0, going[key]) for key in sorted(going))
    unread = sorted(run.key for run in kept if not run.readable)
    if unread:
        return Plan(gone, held=f"the record of {unread[0]} cannot be read, so what it names is not known")
    marked = frozenset(named).union(*(run.snapshots for run in kept))
    swept = [
        Going(one.digest, one.size, f"no run names it; written {_days(now - one.modified)} ago")
        for one in sorted(snapshots, key=lambda one: one.digest)
        if one.digest not in marked and not is_young(one.modified, now)
    ]
    return Plan(gone, tuple(swept))


def is_young(modified: float, now: float) -> bool:
    """Whether something written then is still within the grace."""
    return now - modified <= GRACE


def _why_run(run: Run, policy: Policy, places: dict[str, int], now: float, live: Collection[str]) -> str | None:
    """Why a run goes, None when it stays."""
    if run.key in live:
        return None
    if run.removing:
        return "its removal was cut off"
    if run.finished_at is None or not _asked(policy):
        return None
    reasons = []
    if policy.keep_last is not None:
        if places[run.key] <= policy.keep_last:
            return None
        where = f"experiment {run.experiment}" if run.experiment else "the runs without an experiment"
        reasons.append(f"number {places[run.key]} of {where}, {policy.keep_last} are kept")
    if policy.keep_days is not None:
        if now - run.finished_at <= policy.keep_days * DAY:
            return None
        reasons.append(f"ended {_days(now - run.finished_at)} ago, {policy.keep_days:g} are kept")
    return "; ".join(reasons)


def _asked(policy: Policy) -> bool:
    return policy.keep_last is not None or policy.keep_days is not None


def _places(runs: Iterable[Run]) -> dict[str, int]:
    """Key -> its place among the finished runs of its experiment, 1 for the one that ended last."""
    places: dict[str, int] = {}
    seen: dict[str | None, int] = {}
    finished = [(run.finished_at, run) for run in runs if run.finished_at is not None and not run.removing]
    for _, run in sorted(finished, key=lambda pair: (-pair[0], pair[1].key)):
        seen[run.experiment] = places[run.key] = seen.get(run.experiment, 0) + 1
    return places


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days"
