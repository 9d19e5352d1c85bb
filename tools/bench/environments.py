"""How long it takes to have the image of an environment, beside BuildKit and `crane append`, in one interleaved run.

    python tools/bench/environments.py [--rounds 5] [--no-bytecode] [--alone] [-o json]
    python tools/bench/environments.py --join ROUND.json... [-o json]     # rounds that were run apart, as one

One base image, one locked list of wheels, one registry, one index, all on loopback (Linux, root, 2 cores as published).
Contenders: `stoker` (the builder's process, as in its pod), and those of tools/bench/image_peers.py. Wall seconds and bytes sent
to the registry are medians; CPU seconds are the builder's processes', not the registry's. What keeps nothing from one build
to the next (buildkit-empty, crane) is measured in `cold` alone: everything is cold to it. Scenarios, as docs/benchmarks.md
lists them:

    cold       nothing of ours in registry or caches; buildkit-pip and buildkit-uv have a warm daemon, uv a warm cache
    exact      the same environment again, from its definition to a pinned image reference
    elsewhere  the same environment for another repository of the registry
    added      one package more; changed: one package in another version
    steps      another package list after an unchanged RUN line
    unsolvable a list that has no solution
    begun      cold, but for the base, which something else was built on before
    twice      cold once more, in a repository that knows nothing of the first: the manifest must be the same
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

import msgspec  # noqa: E402

from lab import packages  # noqa: E402
from stoker.api.environment import EnvironmentSpec  # noqa: E402
from stoker.core.environment import definition, keys  # noqa: E402
from stoker.core.environment.request import BuildRequest, BuildResult, Mirrors  # noqa: E402
from stoker.core.plan import KnownImage, RegistryPlace  # noqa: E402
from stoker.images.auth import Keyring  # noqa: E402
from stoker.images.records import Records  # noqa: E402
from stoker.images.registry import Registry  # noqa: E402
from tools.bench.image_ground import Ground, Spent, ground, say  # noqa: E402
from tools.bench.image_peers import BuildKit, Crane, Wanted, warm  # noqa: E402

FIRST = ("numpy", "pandas", "scikit-learn")
ADDED = "lightgbm"
#: Another version for `changed`, downloaded beside the index's own.
CHANGED = "pandas==2.2.3"
#: Built first for `begun`.
BEGINNING = ("stoker-tiny==1.0",)
PLATFORM = "linux/amd64"
STEP = "RUN python3 -c \"print('apt would be here')\" > /etc/step"


@dataclass
class Lists:
    """The locked lists, each made once by uv from the index."""

    first: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stoker:
    """The builder as a process; its request is made from an Environment's spec as the operator makes it."""

    ground: Ground
    index: str
    bytecode: bool = True
    last: dict[str, BuildResult] = field(default_factory=dict)

    def build(self, wanted: Wanted, *, trusted: tuple[str, ...] = ()) -> Spent:
        request = self.request(wanted, trusted)
        answer = self.ground.folder / "answer.json"
        answer.unlink(missing_ok=True)
        scratch = self.ground.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        spent = self.ground.run(
            [sys.executable, "-m", "stoker.images.build"],
            PYTHONPATH=str(ROOT / "operator"),
            STOKER_BUILD=msgspec.json.encode(request).decode(),
            STOKER_TERMINATION_LOG=str(answer),
            TMPDIR=str(scratch),
        )
        if answer.exists():
            self.last[wanted.repository] = msgspec.json.decode(answer.read_bytes(), type=BuildResult)
        return spent

    def digest(self, wanted: Wanted) -> str:
        """Of the image that was made last in a repository."""
        return self.last[wanted.repository].image.partition("@")[2]

    def request(self, wanted: Wanted, trusted: tuple[str, ...] = ()) -> BuildRequest:
        registry = self.ground.registry
        steps = (wanted.before,) if wanted.before else ()
        spec = EnvironmentSpec(image=self.ground.base, pip=wanted.requirements, docker_steps=steps)
        read = definition.read(spec)
        return BuildRequest(
            definition_key=keys.definition_key(read), spec_key=keys.spec_key(read, self.ground.base, PLATFORM),
            steps_key=keys.steps_key(read.steps, read.context_digest, self.ground.base, PLATFORM),
            platform=PLATFORM, base=self.ground.base, steps=read.steps, conda=read.conda, pip=read.pip,
            registry=f"{registry}/{wanted.repository}", trusted=tuple(f"{registry}/{one}" for one in trusted),
            mirrors=Mirrors(pypi=self.index), insecure=(registry,), buildkit=self.ground.buildkit, prefix=keys.PREFIX,
            bytecode=self.bytecode,
        )  # fmt: skip

    def look_up(self, wanted: Wanted) -> Spent:
        """What the operator does for an environment that is there: definition, keys, record, manifest; sockets are open,
        for the operator runs all the time."""
        return asyncio.run(self._look_up(wanted))

    async def _look_up(self, wanted: Wanted) -> Spent:
        async with Registry(insecure=frozenset({self.ground.registry}), user_agent="bench") as registry:
            records = Records(lambda place, keyring: registry.client(keyring))
            place = RegistryPlace(f"{self.ground.registry}/{wanted.repository}")

            async def once() -> KnownImage | None:
                request = self.request(wanted)
                return await records.find(
                    place, request.spec_key, request.definition_key, Keyring(), source="workspace"
                )

            await once()
            sent, cpu, started = self.ground.counting.sent, time.process_time(), time.monotonic()
            found = await once()
            seconds = time.monotonic() - started
            return Spent(
                seconds, time.process_time() - cpu, self.ground.counting.sent - sent, str(found), found is None
            )


def locked(index: str, *wanted: str) -> tuple[str, ...]:
    """Pinned with hashes left out, as both sides check the index's own."""
    from uv import find_uv_bin

    done = subprocess.run(
        [find_uv_bin(), "pip", "compile", "-q", "--no-config", "--no-header", "--no-annotate", "--python-version=3.11",
         "--python-platform=x86_64-manylinux_2_36", f"--default-index={index}", "-"],
        input="\n".join(wanted), text=True, capture_output=True, check=True,
    )  # fmt: skip
    return tuple(line for line in done.stdout.splitlines() if line and not line.startswith("-"))


def index_folder(progress: Callable[[str], None]) -> Path:
    """The lab's index, with the other version in it."""
    folder = packages.ensure(progress)
    if not any((folder / "files").glob("pandas-2.2.3-*")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version=3.11",
             "--platform=manylinux_2_17_x86_64", "--dest", str(folder / "files"), CHANGED],
            check=True,
        )  # fmt: skip
        packages.write_index(folder)
    return folder


class Table:
    """What was measured: scenario -> contender -> runs."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, list[Spent]]] = {}
        #: Of each round: whether two builds of one lock gave one manifest.
        self.same: list[bool] = []

    def add(self, scenario: str, contender: str, spent: Spent, *, fails: bool = False) -> None:
        if spent.failed != fails:
            raise SystemExit(
                f"{contender} in {scenario}: {'failed' if spent.failed else 'did not fail'}:\n{spent.words}"
            )
        self.runs.setdefault(scenario, {}).setdefault(contender, []).append(spent)
        say(
            f"{scenario:11} {contender:15} {spent.seconds:7.3f} s  {spent.cpu:7.3f} s CPU  {spent.sent / 1e6:8.2f} MB sent"
        )

    def raw(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Every run, without its words."""
        return {
            scenario: {
                contender: [{name: value for name, value in asdict(one).items() if name != "words"} for one in taken]
                for contender, taken in contenders.items()
            }
            for scenario, contenders in self.runs.items()
        }

    def medians(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        return {
            scenario: {
                contender: {
                    "seconds": round(statistics.median(one.seconds for one in taken), 3),
                    "cpuSeconds": round(statistics.median(one.cpu for one in taken), 3),
                    "megabytesSent": round(statistics.median(one.sent for one in taken) / 1e6, 3),
                }
                for contender, taken in contenders.items()
            }
            for scenario, contenders in self.runs.items()
        }


def run_round(number: int, table: Table, stoker: Stoker, peers: Mapping[str, BuildKit | Crane], lists: Lists) -> None:
    """Every scenario once, contenders one after another."""
    tag = str(number)
    first = Wanted(lists.first, f"stoker-{number}/a", tag)
    table.add("cold", "stoker", stoker.build(first))
    for name, peer in peers.items():
        table.add("cold", name, peer.build(Wanted(lists.first, f"{name}-{number}/a", tag)))

    again = Wanted(lists.first, f"stoker-{number}/twice", tag)
    table.add("twice", "stoker", stoker.build(again))
    table.same.append(stoker.digest(first) == stoker.digest(again))

    # What the warm daemons know of their base, known here too.
    begun = f"stoker-{number}/begun"
    stoker.build(Wanted(BEGINNING, begun, tag))
    table.add("begun", "stoker", stoker.build(Wanted(lists.first, begun, tag)))

    table.add("exact", "stoker", stoker.look_up(first))
    for name, peer in _kept(peers).items():
        table.add("exact", name, peer.build(Wanted(lists.first, f"{name}-{number}/a", tag)))

    other = Wanted(lists.first, f"stoker-{number}/b", tag)
    table.add("elsewhere", "stoker", stoker.build(other, trusted=(first.repository,)))
    for name, peer in _kept(peers).items():
        table.add("elsewhere", name, peer.build(Wanted(lists.first, f"{name}-{number}/b", tag)))

    for scenario, wanted in (("added", lists.added), ("changed", lists.changed)):
        table.add(scenario, "stoker", stoker.build(Wanted(wanted, first.repository, tag)))
        for name, peer in _kept(peers).items():
            table.add(scenario, name, peer.build(Wanted(wanted, f"{name}-{number}/a", tag)))

    _steps(number, table, stoker, peers, lists)
    # What only the solver can tell: scikit-learn needs a newer one.
    impossible = (*(one for one in lists.first if not one.startswith("scipy==")), "scipy<1")
    table.add("unsolvable", "stoker", stoker.build(Wanted(impossible, first.repository, tag)), fails=True)
    for name, peer in _kept(peers).items():
        table.add("unsolvable", name, peer.build(Wanted(impossible, f"{name}-{number}/a", tag)), fails=True)


def _steps(number: int, table: Table, stoker: Stoker, peers: Mapping[str, BuildKit | Crane], lists: Lists) -> None:
    """The RUN line is done beforehand; then the list of packages changes."""
    tag = str(number)
    for name, peer in ({"stoker": stoker} | _kept(peers)).items():
        before = f"{STEP}-{name}-{number}"
        done = peer.build(Wanted(lists.first, f"{name}-{number}/s", tag, before))
        if done.failed:
            raise SystemExit(f"{name}: {done.words}")
        table.add("steps", name, peer.build(Wanted(lists.added, f"{name}-{number}/s", tag, before)))


def _kept(peers: Mapping[str, BuildKit | Crane]) -> dict[str, BuildKit]:
    """Those that keep a cache from one build to the next."""
    return {name: peer for name, peer in peers.items() if isinstance(peer, BuildKit) and not peer.empty}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-bytecode", action="store_true", help="nobody compiles modules")
    parser.add_argument("--alone", action="store_true", help="without the others")
    parser.add_argument("--join", nargs="+", type=Path, metavar="ROUND.json", help="measure nothing: join these")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    if arguments.join:
        result = joined([json.loads(path.read_text()) for path in arguments.join])
    else:
        result = measured(arguments.rounds, bytecode=not arguments.no_bytecode, alone=arguments.alone)
    if arguments.output == "json":
        print(json.dumps(result, indent=1))
        return
    for scenario, contenders in result["medians"].items():
        for contender, row in contenders.items():
            print(
                f"{scenario:11} {contender:15} {row['seconds']:8.3f} s {row['cpuSeconds']:8.3f} s CPU {row['megabytesSent']:9.3f} MB sent"
            )
    print(
        f"{result['rounds']} builds of one lock, each in a repository of its own: {len(result['digests'])} manifest digest(s)"
    )


def measured(rounds: int, *, bytecode: bool, alone: bool) -> dict[str, Any]:
    """Runs the rounds, one after another."""
    table, when = Table(), time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    with ground(say) as place, packages.serving(index_folder(say)) as served:
        os.environ["UV_INSECURE_HOST"] = "127.0.0.1"
        lists = Lists(
            locked(served.pypi, *FIRST), locked(served.pypi, *FIRST, ADDED), locked(served.pypi, *FIRST, CHANGED)
        )
        stoker = Stoker(place, served.pypi, bytecode)
        peers: dict[str, BuildKit | Crane] = {
            "buildkit-pip": BuildKit(place, served.pypi, pip=True, bytecode=bytecode),
            "buildkit-uv": BuildKit(place, served.pypi, bytecode=bytecode),
            "buildkit-empty": BuildKit(place, served.pypi, empty=True, bytecode=bytecode),
            "crane": Crane(place, served.pypi, bytecode),
        }
        uv = peers["buildkit-uv"]
        assert isinstance(uv, BuildKit)
        for number in range(rounds):
            if not alone:
                warm(uv, Wanted(lists.added, f"warm-{number}/a", f"warm-{number}"))
            run_round(number, table, stoker, {} if alone else peers, lists)
    return {
        "started": [when], "rounds": rounds, "bytecode": bytecode, "lists": asdict(lists), "medians": table.medians(),
        "same": table.same, "raw": table.raw(),
    }  # fmt: skip


def joined(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Raises SystemExit for rounds that measured something else than each other."""
    table, first = Table(), rounds[0]
    for one in rounds:
        if any(one[name] != first[name] for name in ("bytecode", "lists")):
            raise SystemExit("these rounds had other packages, or only some compiled modules")
        for scenario, contenders in one["raw"].items():
            for contender, taken in contenders.items():
                for spent in taken:
                    table.runs.setdefault(scenario, {}).setdefault(contender, []).append(Spent(**spent))
    return first | {
        "started": [when for one in rounds for when in one["started"]],
        "rounds": sum(one["rounds"] for one in rounds),
        "medians": table.medians(),
        "same": [same for one in rounds for same in one["same"]],
        "raw": table.raw(),
    }


if __name__ == "__main__":
    main()
