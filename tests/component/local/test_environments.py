"""What this Python lacks goes into an environment of the user's cache, made once. No network: packages made on the spot."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.packages import Channel, served, wheel


def environments(cli: Cli) -> list[Path]:
    """The folders of environments, whole or not."""
    root = cli.cache / "stoker" / "environments"
    return sorted(path for path in root.glob("*/*") if path.is_dir()) if root.is_dir() else []


def record(cli: Cli) -> dict:
    """job.json of the newest run."""
    found = max((cli.folder / ".stoker" / "jobs").glob("*/job.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(found.read_text())


def python_line(stderr: str) -> str:
    return next(line for line in stderr.splitlines() if line.startswith("  python "))


# -- pip alone.


def test_an_environment_is_made_once_and_used_again(offline: Cli) -> None:
    first = offline("run", "train.py")
    second = offline("run", "train.py")

    assert "installing stokertiny==1.0 with uv" in first.stderr
    assert "installing" not in second.stderr
    assert [f"42 {environments(offline)[0]}"] == second.stdout.splitlines()
    assert "requirements.txt" in second.stderr


def test_the_plan_says_built_and_then_found_with_seconds(offline: Cli) -> None:
    built, found = (python_line(offline("run", "train.py").stderr) for _ in range(2))

    assert re.search(r"1 package .*solved in \d+\.\d s, built in \d+\.\d s +\d+\.\d s$", built)
    assert re.search(r"1 package .*found in the cache +0\.[0-2] s$", found)


def test_the_record_names_the_environment(offline: Cli) -> None:
    offline("run", "train.py")
    built = record(offline)["environment"]
    offline("run", "train.py")
    found = record(offline)["environment"]

    assert ("built", "cache") == (built["source"], found["source"])
    assert built["definitionKey"] == found["definitionKey"]
    assert built["lockKey"] == found["lockKey"]
    assert {64} == {len(built["definitionKey"]), len(built["lockKey"])}


def test_system_is_the_python_that_runs_stoker(offline: Cli) -> None:
    done = offline("run", "train.py", "--environment", "system", code=1)

    assert "No module named 'stokertiny'" in done.stdout
    assert [] == environments(offline)
    assert "system" == record(offline)["environment"]["source"]


def test_a_python_that_has_the_packages_serves_and_that_is_said(offline: Cli) -> None:
    offline.write(requirements__txt="msgspec\n", train__py="print(1)\n")

    done = offline("run", "train.py")

    assert "has the 1 package, nothing is installed" in python_line(done.stderr)
    assert [] == environments(offline)


def test_packages_that_there_are_none_of_are_named(offline: Cli) -> None:
    offline.write(requirements__txt="--no-index\nstoker-no-such-package\n")

    done = offline("run", "train.py", code=125)

    assert "stoker-no-such-package" in done.stderr
    assert [] == environments(offline)


def test_two_at_once_make_one_environment(offline: Cli) -> None:
    runs = [offline.start("run", "train.py") for _ in range(2)]
    ends = [run.communicate(timeout=120) for run in runs]

    assert [0, 0] == [run.returncode for run in runs], ends
    assert 1 == len(environments(offline))
    assert 1 == sum("installing stokertiny" in err for _, err in ends)


def test_what_was_chosen_once_stays_until_it_is_chosen_anew(offline: Cli, wheels: Path) -> None:
    offline.write(requirements__txt=f"--no-index\n--find-links {wheels}\nstokertiny\n")
    offline("run", "train.py")
    wheel(wheels, "stokertiny", "2.0", {"stokertiny.py": "VALUE = 43\n"})

    kept = offline("run", "train.py")
    anew = offline("run", "train.py", "--refresh-environment")
    after = offline("run", "train.py")

    assert ["42", "43", "43"] == [done.stdout.split()[0] for done in (kept, anew, after)]
    assert 2 == len(environments(offline))


def test_an_environment_whose_files_are_gone_is_made_again_of_the_same_versions(offline: Cli, wheels: Path) -> None:
    offline.write(requirements__txt=f"--no-index\n--find-links {wheels}\nstokertiny\n")
    offline("run", "train.py")
    wheel(wheels, "stokertiny", "2.0", {"stokertiny.py": "VALUE = 43\n"})
    (environments(offline)[0] / "bin" / "python").unlink()

    done = offline("run", "train.py")

    assert "42" == done.stdout.split()[0]
    assert "built in" in python_line(done.stderr)


def test_a_file_that_is_not_the_one_that_was_chosen_is_refused(offline: Cli, wheels: Path) -> None:
    offline("run", "train.py")
    wheel(wheels, "stokertiny", "1.0", {"stokertiny.py": "VALUE = 'another'\n"})
    (environments(offline)[0] / "stoker-environment.json").unlink()
    # uv's own cache still has the file that was chosen.
    offline.env["UV_CACHE_DIR"] = str(offline.cache / "another")

    done = offline("run", "train.py", code=125)

    assert "Hash mismatch for `stokertiny==1.0`" in done.stderr


# -- conda, with a pip section.


def test_conda_and_pip_packages_are_in_one_environment(conda: Cli) -> None:
    built = conda("run", "train.py")
    found = conda("run", "train.py")

    assert [f"2.0 42 {environments(conda)[0]}"] == built.stdout.splitlines() == found.stdout.splitlines()
    assert re.search(r"3 packages .*built in", python_line(built.stderr))
    assert re.search(r"3 packages .*found in the cache +0\.[0-2] s$", python_line(found.stderr))


def test_pip_keeps_what_conda_brings_under_another_name(conda: Cli, channel: Channel, wheels: Path) -> None:
    """As with pytorch, which brings torch."""
    info = "site-packages/stokerother-3.0.dist-info"
    channel.add(
        "py-stokerother", "1.0",
        {"site-packages/stokerother.py": "VALUE = 'of conda'\n", f"{info}/RECORD": "",
         f"{info}/METADATA": "Metadata-Version: 2.1\nName: stokerother\nVersion: 3.0\n"},
        depends=("python",), noarch="python",
    )  # fmt: skip
    channel.index()
    for version in ("3.0", "3.1"):
        wheel(wheels, "stokerother", version, {"stokerother.py": "VALUE = 'of pip'\n"})
    wheel(wheels, "stokerneeds", "1.0", {"stokerneeds.py": ""}, requires=("stokerother>=3",))
    text = (conda.folder / "conda.yaml").read_text()
    conda.write(
        conda__yaml=text.replace("stokerconda,", "py-stokerother,").replace("stokertiny==1.0", "stokerneeds"),
        train__py="import stokerneeds, stokerother\nprint(stokerother.VALUE)\n",
    )

    assert ["of conda"] == conda("run", "train.py").stdout.splitlines()


def test_console_scripts_of_both_run_by_name(conda: Cli) -> None:
    conda.write(train__sh='stokerconda && stokertiny && echo "$CONDA_PREFIX"\n')

    done = conda("run", "train.sh")

    assert ["2.0", "42", str(environments(conda)[0])] == done.stdout.splitlines()


def test_a_found_environment_asks_no_channel(conda: Cli, served_channel: tuple[str, list[str]]) -> None:
    conda("run", "train.py")
    asked = served_channel[1]
    asked.clear()

    conda("run", "train.py")

    assert [] == asked


def test_conda_packages_stay_until_they_are_chosen_anew(conda: Cli, channel: Channel) -> None:
    conda("run", "train.py")
    channel.add_module("stokerconda", "3.0")
    channel.index()

    kept = conda("run", "train.py")
    anew = conda("run", "train.py", "--refresh-environment")

    assert ["2.0", "3.0"] == [done.stdout.split()[0] for done in (kept, anew)]


def test_pip_keeps_what_conda_brings(conda: Cli, wheels: Path, served_channel: tuple[str, list[str]]) -> None:
    wheel(wheels, "stokerconda", "9.0", {"stokerconda.py": "VERSION = '9.0'\n"})
    wheel(wheels, "stokerconda", "2.0", {"stokerconda.py": "VERSION = 'of pip'\n"})
    wheel(wheels, "stokertiny", "1.1", {"stokertiny.py": "VALUE = 44\n"}, requires=["stokerconda"])
    conda.write(conda__yaml=f"channels: [{served_channel[0]}]\ndependencies: [stokerconda, pip: [stokertiny==1.1]]\n")

    done = conda("run", "train.py")

    assert ["2.0", "44"] == done.stdout.split()[:2]


def test_a_set_that_nothing_meets_is_refused_in_the_solvers_words(
    conda: Cli, served_channel: tuple[str, list[str]]
) -> None:
    conda.write(conda__yaml=f"channels: [{served_channel[0]}]\ndependencies: [stokerconda>=7]\n")

    done = conda("run", "train.py", code=125)

    assert "stokerconda >=7" in done.stderr
    assert "conda.dependencies" in done.stderr
    assert [] == environments(conda)


def test_a_channel_that_does_not_answer_is_named(conda: Cli) -> None:
    conda.write(conda__yaml="channels: ['http://127.0.0.1:9/none']\ndependencies: [stokerconda]\n")

    done = conda("run", "train.py", code=125)

    assert "127.0.0.1:9/none" in done.stderr


def test_a_channel_by_name_is_looked_for_below_the_users_alias(conda: Cli, channel: Channel) -> None:
    conda.write(conda__yaml="channels: [channel]\ndependencies: [stokerconda]\n", train__py="import stokerconda\n")
    with served(channel.folder.parent) as (url, asked):
        conda.env["CONDA_CHANNEL_ALIAS"] = url

        conda("run", "train.py")

    assert "/channel/noarch/stokerconda-2.0-py_0.conda" in asked


def test_a_conda_file_of_python_and_pip_alone_asks_no_channel(
    conda: Cli, served_channel: tuple[str, list[str]]
) -> None:
    conda.write(
        conda__yaml=f"channels: [{served_channel[0]}]\ndependencies: [python>=3.9, pip, pip: [stokertiny]]\n",
        train__py="import stokertiny\nprint(stokertiny.VALUE)\n",
    )

    done = conda("run", "train.py")

    assert ["42"] == done.stdout.splitlines()
    assert [] == served_channel[1]


def test_two_at_once_build_conda_packages_once(conda: Cli) -> None:
    runs = [conda.start("run", "train.py") for _ in range(2)]
    ends = [run.communicate(timeout=120) for run in runs]

    assert [0, 0] == [run.returncode for run in runs], ends
    assert 1 == sum("from conda channels" in err for _, err in ends)


# -- Killed while it builds.


def until_there(place: Path, run: "subprocess.Popen[str]") -> None:
    """Wait until a script of the run has made a file."""
    deadline = time.monotonic() + 60
    while not place.exists():
        if run.poll() is not None or time.monotonic() > deadline:
            run.kill()
            pytest.fail(f"{place} was not made: {run.communicate()}")
        time.sleep(0.02)


def test_a_build_that_is_killed_leaves_nothing_that_is_taken_for_whole(
    conda: Cli, channel: Channel, tmp_path: Path
) -> None:
    """Killed while conda's package runs its own script: the environment's folder is there then, half made."""
    reached, go = tmp_path / "reached", tmp_path / "go"
    channel.add(
        "stokerslow", "1.0",
        {"bin/.stokerslow-post-link.sh": f"#!/bin/sh\ntouch {reached}\nwhile [ ! -e {go} ]; do sleep 0.05; done\n"},
        depends=["python"],
    )  # fmt: skip
    channel.index()
    conda.write(
        conda__yaml=(conda.folder / "conda.yaml").read_text().replace("[stokerconda", "[stokerslow, stokerconda")
    )
    run = conda.start("run", "train.py")
    until_there(reached, run)
    half = environments(conda)

    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    go.touch()
    done = conda("run", "train.py")

    assert 1 == len(half)
    assert half == environments(conda)
    assert [f"2.0 42 {half[0]}"] == done.stdout.splitlines()
    assert "built in" in python_line(done.stderr)


def test_ctrl_c_while_it_builds_leaves_nothing(conda: Cli, channel: Channel, tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    channel.add(
        "stokerslow",
        "1.0",
        {"bin/.stokerslow-post-link.sh": f"#!/bin/sh\ntouch {reached}\nsleep 2\n"},
        depends=["python"],
    )
    channel.index()
    conda.write(
        conda__yaml=(conda.folder / "conda.yaml").read_text().replace("[stokerconda", "[stokerslow, stokerconda")
    )
    run = conda.start("run", "train.py")
    until_there(reached, run)

    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)

    assert 130 == run.returncode, err
    assert [] == environments(conda)
