"""`stoker gc` removes environments that nobody used for a while, and only those."""

import os
import time
from pathlib import Path

from tests.support.cli import Cli

DAY = 86400


def environment(cli: Cli) -> Path:
    """The one environment there is."""
    return next(path for path in (cli.cache / "stoker" / "environments").glob("*/*") if path.is_dir())


def last_used(environment: Path, days: float) -> None:
    """Let the environment have been used so many days ago."""
    then = time.time() - days * DAY
    os.utime(environment / "stoker-environment.json", (then, then))


def test_one_that_nobody_used_for_a_month_goes_and_comes_back_as_it_was(offline: Cli) -> None:
    offline("run", "train.py")
    place = environment(offline)
    last_used(place, 31)

    planned = offline.json("gc", "--dry-run")["environments"]
    there_after_the_dry_run = place.exists()
    removed = offline.json("gc", "-y")["environments"]
    gone = not place.exists()
    offline("run", "train.py")

    assert [(str(place), "not used for 31 days")] == [(one["path"], one["reason"]) for one in planned]
    assert planned == removed
    assert (True, True) == (there_after_the_dry_run, gone)
    assert place == environment(offline)


def test_one_that_was_used_lately_stays(offline: Cli) -> None:
    offline("run", "train.py")
    last_used(environment(offline), 29)

    assert [] == offline.json("gc", "-y")["environments"]
    assert 1 == len(offline.json("gc", "--environment-days", "28", "--dry-run")["environments"])


def test_a_run_counts_as_a_use(offline: Cli) -> None:
    offline("run", "train.py")
    last_used(environment(offline), 31)
    offline("run", "train.py")

    assert [] == offline.json("gc", "-y")["environments"]


def test_one_that_a_run_is_using_stays_however_long_it_runs(offline: Cli, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    text = f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    offline.write(train__py=text)
    run = offline.start("run", "train.py")
    while not started.exists():
        assert run.poll() is None
        time.sleep(0.02)
    last_used(environment(offline), 31)

    while_it_runs = offline.json("gc", "-y")["environments"]
    go.touch()
    _, err = run.communicate(timeout=60)

    assert [] == while_it_runs
    assert 0 == run.returncode, err
    assert 1 == len(offline.json("gc", "-y")["environments"])


def test_what_a_killed_build_left_goes_at_once(offline: Cli) -> None:
    offline("run", "train.py")
    (environment(offline) / "stoker-environment.json").unlink()

    assert ["its build was cut off"] == [one["reason"] for one in offline.json("gc", "-y")["environments"]]


def test_venvs_of_earlier_versions_go_by_their_last_use(offline: Cli) -> None:
    old, young = (offline.cache / "stoker" / "venvs" / name for name in ("old", "young"))
    for venv, days in ((old, 40), (young, 1)):
        venv.mkdir(parents=True)
        (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
        os.utime(venv, (time.time() - days * DAY,) * 2)

    done = offline("gc", "-y")

    assert (False, True) == (old.exists(), young.exists())
    assert "venvs/old" in done.stdout
    assert "1 environment, 16 B in all" in done.stdout


def test_a_namespace_has_no_environments_of_this_machine(offline: Cli) -> None:
    offline("run", "train.py")
    last_used(environment(offline), 31)
    offline("gc", "-n", "team", "-y", "--storage", ".stoker", code=125)

    assert environment(offline).exists()
