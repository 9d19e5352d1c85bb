"""What odd moments, names, folders and configurations do to a local run: told in a sentence, and nothing is lost."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cli import Cli


def test_ctrl_c_while_saving_loses_nothing(cli: Cli) -> None:
    cli.write(
        t__py=(
            "import pathlib\nfor n in range(3000):\n    pathlib.Path('outputs', str(n)).write_text('x')\n"
            "print('end', flush=True)\n"
        )
    )
    process = cli.start("run", "t.py", "-o", "json")
    assert process.stderr is not None
    while "end" not in process.stderr.readline():
        assert process.poll() is None

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)

    # Too early by a hair it still cancels the command; whichever it was, there is a record and all is saved.
    record = json.loads(out)
    assert (record["phase"], process.returncode) in (("Completed", 0), ("Canceled", 130))
    assert 3000 == len(record["outputs"])


def test_a_command_that_cannot_be_started_ends_the_run(cli: Cli) -> None:
    """It once waited for ever for the end of a command that had not begun."""
    cli.write(job__yaml="command: echo hi\nenvironment_variables: {A: " + "a" * 200_000 + "}\n")

    told = cli("run", code=125)

    assert "Argument list too long" in told.stderr
    assert "Traceback" not in told.stderr


def test_sigterm_before_the_command_clears_away(cli: Cli, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    cli.env["TMPDIR"] = str(scratch)
    cli.write(t__py="print('x')")
    process = cli.start("run", "t.py")
    assert process.stderr is not None
    while " command " not in process.stderr.readline():
        assert process.poll() is None

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert [] == list(scratch.iterdir())


@pytest.mark.parametrize("flag", [["--tag", "a=\udcff"], ["-e", "A=\udcff"], ["--set", "inputs.x=\udcff"]])
def test_text_that_no_record_can_hold_is_refused(cli: Cli, flag: list[str]) -> None:
    cli.write(t__py="")

    assert "is not valid Unicode" in cli("run", "t.py", *flag, code=2).stderr


def test_a_link_in_a_circle_is_refused_where_it_is_listed(cli: Cli) -> None:
    """`snapshot` once gave a digest for a tree that nothing can unpack."""
    cli.write(t__py="")
    (cli.folder / "loop").symlink_to("loop")

    assert "'loop': the link runs in a circle" in cli("snapshot", code=2).stderr


def test_the_cluster_of_an_odd_kubeconfig_is_an_answer_too(cli: Cli) -> None:
    cli.write(
        t__py="",
        kube=(
            "{current-context: c, contexts: [{name: c, context: {cluster: c}}], "
            "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:99999'}}]}"
        ),
    )
    cli.env["KUBECONFIG"] = str(cli.folder / "kube")

    assert "Port out of range" in cli("ls", "-n", "x", code=125).stderr
    cli.write(kube="- 1")
    assert "warning" in cli("ls").stderr


def test_old_locales_get_json_all_the_same(cli: Cli) -> None:
    cli.write(t__py="")
    cli.env["PYTHONIOENCODING"] = "ascii"

    cli("run", "t.py", "--tag", "a=\u00e9\u4e2d")

    assert {"a": "\u00e9\u4e2d"} == cli.json("ls")[0]["tags"]


def test_a_name_that_looks_like_a_key_is_found(cli: Cli) -> None:
    """`.stoker/jobs/<name>` is a link for people, and was taken for the run itself."""
    cli.write(t__py="")
    cli("run", "t.py", "--name", "train-deadbeef")

    assert "Completed" == cli.json("show", "train-deadbeef")["phase"]


def test_a_file_with_the_longest_name_is_pulled(cli: Cli) -> None:
    cli.write(t__py="open('outputs/' + 'x' * 255, 'w').write('long')")
    cli("run", "t.py")

    cli("pull", "@last", "got")

    assert ["x" * 255] == [path.name for path in (cli.folder / "got").iterdir()]


def test_a_name_with_a_colon_is_pulled(cli: Cli) -> None:
    """`a:b` was taken for a drive, and kept every file behind it away."""
    cli.write(t__py="for name in ('a:b.pt', 'z'): open('outputs/' + name, 'w').write(name)")
    cli("run", "t.py")

    cli("pull", "@last", "got")

    assert ["a:b.pt", "z"] == sorted(path.name for path in (cli.folder / "got").iterdir())


def test_a_virtual_environment_in_the_folder_is_told_with_the_line_that_leaves_it_out(cli: Cli) -> None:
    cli.write(t__py="print('ran')")
    (cli.folder / ".env" / "bin").mkdir(parents=True)
    (cli.folder / ".env" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (cli.folder / ".env" / "bin" / "python").symlink_to("/usr/bin/python3")

    refused = cli("run", "t.py", code=2).stderr

    assert ".env/ is a virtual environment" in refused
    assert "put the line .env/ into .gitignore" in refused
    cli.write(__gitignore=".env/\n")
    assert "ran" in cli("run", "t.py").stdout


def test_one_broken_record_does_not_hide_the_others(cli: Cli) -> None:
    cli.write(t__py="")
    broken = cli.json("run", "t.py", "--name", "broken")
    cli("run", "t.py", "--name", "whole")
    Path(broken["storage"].removeprefix("file://"), "result.json").write_text("{")

    listed = cli("ls", "-o", "json")

    assert ["whole"] == [one["name"] for one in json.loads(listed.stdout)]
    assert "result.json" in listed.stderr
    assert "result.json" in cli("show", "broken", code=125).stderr


@pytest.mark.parametrize("noted", ["[", "[]", '{"compute": "local"}', '{"compute": "cpu"}'])
def test_last_is_found_without_its_note(cli: Cli, noted: str) -> None:
    cli.write(t__py="")
    cli("run", "t.py", "--name", "it")
    (cli.folder / ".stoker" / "last.json").write_text(noted)

    assert "it" == cli.json("show", "@last")["name"]


def test_settings_that_are_no_text_are_refused(cli: Cli) -> None:
    (cli.folder / ".stoker").mkdir()
    (cli.folder / ".stoker" / "config.yaml").write_bytes(b"\xff")

    assert ".stoker/config.yaml: cannot be read" in cli("ls", code=2).stderr


def test_a_folder_whose_name_is_no_unicode(cli: Cli, tmp_path: Path) -> None:
    cli.folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/we\xffird"))
    cli.folder.mkdir()
    cli.write(t__py="print(open(__import__('sys').argv[1]).read())", d="data", job__yaml=(
        "command: python t.py ${{inputs.d}}\ncode: .\ninputs: {d: {type: uri_file, path: d}}\n"
    ))  # fmt: skip

    assert "data" in cli("run", "t.py", "--", "d").stdout
    assert 3 == len(cli.json("snapshot")["files"])


def test_prose_never_takes_the_place_of_data(cli: Cli) -> None:
    """With standard error closed, Python's print goes to standard output."""
    cli.write(t__py="print('x')")
    command = shlex.join([sys.executable, "-P", "-m", "stoker.cli", "run", "t.py", "-o", "json"])

    done = subprocess.run(
        ["sh", "-c", f"{command} 2>&-"], cwd=cli.folder, env=cli.environment(), stdout=subprocess.PIPE, check=True
    )
    closed = subprocess.run(
        ["sh", "-c", f"{command} >&-"], cwd=cli.folder, env=cli.environment(), stderr=subprocess.PIPE, check=False
    )

    assert "Completed" == json.loads(done.stdout)["phase"]
    assert (0, False) == (closed.returncode, b"Traceback" in closed.stderr)


@pytest.mark.parametrize("arguments", ["ls", "ls -o json", "logs @last"])
def test_a_reader_that_leaves_is_no_error(cli: Cli, arguments: str) -> None:
    cli.write(t__py="print('x' * 1_000_000)")
    cli("run", "t.py", "-q")
    read, write = os.pipe()
    os.close(read)

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "stoker.cli", *arguments.split()], cwd=cli.folder, env=cli.environment(),
        stdout=write, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write)

    assert (b"", 0) == (process.communicate(timeout=30)[1], process.returncode)


def test_a_relative_cache_folder_is_ignored(cli: Cli) -> None:
    cli.write(t__py="")
    cli.env["XDG_CACHE_HOME"] = "cache"

    cli("run", "t.py")

    assert not (cli.folder / "cache").exists()


def test_a_long_log_is_printed_whole_and_its_time_grows_with_its_length(cli: Cli) -> None:
    """It was once joined piece by piece: 300 MB took 48 s, and three times the log more than six times the time."""
    spent = []
    for lines in (50, 150):
        cli.write(t__py=f"import sys\nfor _ in range({lines}):\n    sys.stdout.write('x' * 1_000_000)\n")
        cli("run", "t.py", "-q")
        began = time.process_time(), os.times().children_user
        printed = cli("logs", "@last").stdout
        spent.append(time.process_time() - began[0] + os.times().children_user - began[1])
        assert lines * 1_000_000 == len(printed)

    short, long = spent
    assert long < 4.5 * short, spent


def test_init_in_a_folder_whose_script_has_a_blank(cli: Cli) -> None:
    (cli.folder / "my train.py").write_text("print('ran')")
    cli("init")

    assert "ran" in cli("run").stdout
