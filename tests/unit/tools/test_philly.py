"""What the learned idle time is worth on real jobs: the bounds that docs/benchmarks gives for the whole trace."""

from pathlib import Path

import pytest

from tools import replay

PHILLY = Path(replay.__file__).parent / "data/philly-4vc.csv"
SOME = ("vc1", "vc3")


@pytest.mark.parametrize(("boot", "most"), [(300.0, 1.20), (3600.0, 1.37)])
def test_the_learned_time_stays_near_the_optimum(boot: float, most: float) -> None:
    report = replay.replay(PHILLY, boot, None, pools=SOME)

    assert report["costRatio"] <= most
    assert report["starved"] == 0


def test_short_jobs_take_few_node_hours_more_than_the_optimum() -> None:
    report = replay.replay(PHILLY, 180.0, None, 3600.0, pools=SOME)

    timer = replay.replay(PHILLY, 180.0, 120.0, 3600.0, pools=SOME)

    assert report["nodeHours"] <= 1.06 * report["optimumNodeHours"]
    assert report["nodeHours"] < timer["nodeHours"]


def test_under_a_cap_of_half_the_peak_nothing_starves_and_nothing_is_kept_in_vain() -> None:
    report = replay.replay(PHILLY, 300.0, None, cap=replay.Cap(part=0.5), pools=SOME)

    assert (report["starved"], report["overHeldNodeHours"]) == (0, 0.0)
