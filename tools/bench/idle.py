"""What idle times cost on real jobs: the pool's own decision beside the timers of other autoscalers.

    python tools/bench/idle.py [--trace tools/data/philly-4vc.csv] [--write]

--write: into docs/benchmarks/idle-times.md and .svg; without it the page is printed. Takes about two minutes.
The timers are thin models: a node goes after so many idle seconds, at once, and a job starts as soon as its nodes would
have booted. The pool's own figures come from replaying each job through its decision (tools/replay.py).
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

from tools import replay  # noqa: E402
from tools.replaying import optimum, trace  # noqa: E402

BOOTS = (180.0, 300.0, 900.0, 1800.0, 3600.0)
#: Idle seconds, and who waits so long by default.
TIMERS: Mapping[str, float | None] = {
    "0 s": 0.0,
    "120 s (AmlCompute)": 120.0,
    "600 s (cluster-autoscaler, ParallelCluster)": 600.0,
    "break-even (as long as a boot)": None,
}
OWN, SCALE = "Stoker, Learned", "Stoker, Learned, type Scale"
SHORT = 3600.0
PAGE, PLOT = ROOT / "docs/benchmarks/idle-times.md", ROOT / "docs/benchmarks/idle-times.svg"


@dataclass(frozen=True, slots=True)
class Short:
    """Jobs of at most an hour: node-hours over the optimum's, and the mean wait in seconds."""

    part: float
    wait: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trace", type=Path, default=ROOT / "tools/data/philly-4vc.csv")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    ratios, capped = _ratios(options.trace), replay.replay(options.trace, 300.0, None, cap=replay.Cap(part=0.5))
    text = page(ratios, _short(options.trace, 180.0), capped)
    if not options.write:
        print(text)
        return 0
    PAGE.write_text(text)
    PLOT.write_text(plot(ratios))
    return 0


def _ratios(path: Path) -> dict[str, list[float]]:
    """costRatio by policy, one for each of BOOTS."""
    seen = [optimum.levels(jobs) for jobs in trace.read(path).values()]
    ratios: dict[str, list[float]] = {name: [] for name in (*TIMERS, SCALE, OWN)}
    for boot in BOOTS:
        least = sum(optimum.least_waste(one, boot) for one in seen)
        for name, idle in TIMERS.items():
            waste = sum(optimum.timer_waste(one, boot, boot if idle is None else idle) for one in seen)
            ratios[name].append(waste / least)
        ratios[SCALE].append(replay.replay(path, boot, None, cancels=False)["costRatio"])
        ratios[OWN].append(replay.replay(path, boot, None)["costRatio"])
    return ratios


def _short(path: Path, boot: float) -> dict[str, Short]:
    pools = trace.read(path, SHORT)
    seen = {name: optimum.levels(jobs) for name, jobs in pools.items()}
    best = optimum.total(seen.values(), boot)
    jobs = sum(map(len, pools.values()))
    found = {}
    for name, told in TIMERS.items():
        idle = boot if told is None else told
        paid = sum(one.busy + optimum.timer_waste(one, boot, idle) + one.first * boot for one in seen.values())
        waited = sum(optimum.timer_wait(each, boot, idle) for each in pools.values())
        found[name] = Short(paid / best, waited / jobs)
    own = replay.replay(path, boot, None, SHORT)
    found[OWN] = Short(own["nodeHours"] / own["optimumNodeHours"], own["meanWaitSeconds"])
    fixed = replay.replay(path, boot, 120.0, SHORT)
    found["Stoker, Fixed 120 s"] = Short(fixed["nodeHours"] / fixed["optimumNodeHours"], fixed["meanWaitSeconds"])
    return found


def page(ratios: Mapping[str, Sequence[float]], short: Mapping[str, Short], capped: Mapping[str, float]) -> str:
    heads = " | ".join(f"boot {boot:.0f} s" for boot in BOOTS)
    rows = [f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |" for name, values in ratios.items()]
    shorts = [f"| {name} | {one.part:.3f} | {one.wait:.1f} |" for name, one in short.items()]
    return "\n".join(
        [
            "<!-- Made by `python tools/bench/idle.py --write`. Do not edit. -->",
            "# What idle times cost",
            "",
            "10,879 jobs of four virtual clusters (`tools/data/README.md`), replayed in virtual time through the pool's own",
            "decision. The optimum knows the whole trace beforehand and keeps a node over a pause or boots one anew, whichever",
            "costs less; that is exact (`tools/replaying/optimum.py`). The other timers are thin models: they remove a node at",
            "once, and their jobs end when they would have ended without any wait.",
            "",
            "## Node-seconds of idling and booting, as a multiple of the optimum's",
            "",
            f"| idle time | {heads} |",
            f"|---|{'---|' * len(BOOTS)}",
            *rows,
            "",
            "![the same as a plot](idle-times.svg)",
            "",
            "With `Learned` nobody has to choose a timer. A provider of single machines also ends a boot that nobody waits for",
            "any more; a pool of type Scale cannot name a machine that is not there yet. The replays pay for their waits: a job",
            "that waits for a boot ends later, which the thin models leave out.",
            "",
            "## Jobs of at most an hour, boot 180 s",
            "",
            "| idle time | node-hours over the optimum's | mean wait s |",
            "|---|---|---|",
            *shorts,
            "",
            "A longer timer buys little waiting time at a steep price: most jobs of a burst wait for a boot whatever the timer is.",
            "`Learned` brings nodes ahead of a burst: it waits about as long as the timer of 120 s, for a tenth less node-hours. Its",
            "constants were chosen on this trace. Whoever wants shorter waits keeps nodes warm (`spec.warm`).",
            "",
            "## Under a cap of half of what each pool would need, boot 300 s",
            "",
            f"Jobs that never started: {capped['starved']:.0f}. Node-hours of nodes kept in vain: "
            f"{capped['overHeldNodeHours']:.1f}. A gang whose other nodes have jobs",
            "keeps free nodes for `scaleUp.partialHoldSeconds` at most, and keeps its place in the line.",
            "",
        ]
    )


def plot(ratios: Mapping[str, Sequence[float]]) -> str:
    """An SVG: boot seconds (log) against the cost ratio."""
    width, height, left, bottom, top = 760, 380, 60, 50, 20
    most = 4.0
    colours = ("#8a8a8a", "#c77c02", "#b3261e", "#5b5bd6", "#7fb069", "#0b7a3b")

    def x(boot: float) -> float:
        part = math.log(boot / BOOTS[0]) / math.log(BOOTS[-1] / BOOTS[0])
        return left + part * (width - left - 240)

    def y(ratio: float) -> float:
        return top + (most - min(ratio, most)) / (most - 1.0) * (height - top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for ratio in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0):
        parts.append(f'<line x1="{left}" x2="{width - 240}" y1="{y(ratio):.1f}" y2="{y(ratio):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(ratio) + 4:.1f}" text-anchor="end">{ratio}</text>')
    parts += [f'<text x="{x(boot):.1f}" y="{height - 28}" text-anchor="middle">{boot:.0f} s</text>' for boot in BOOTS]
    parts.append(f'<text x="{left}" y="{height - 8}">boot time; upwards: idling and booting over the optimum</text>')
    for number, ((name, values), colour) in enumerate(zip(ratios.items(), colours, strict=True)):
        points = " ".join(f"{x(boot):.1f},{y(value):.1f}" for boot, value in zip(BOOTS, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        row = top + 20 + number * 20
        parts.append(f'<rect x="{width - 228}" y="{row - 9}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{width - 210}" y="{row - 3}">{name.partition(" (")[0]}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
