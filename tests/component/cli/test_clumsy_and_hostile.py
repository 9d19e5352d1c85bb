"""What odd moments, names, folders and configurations do to a local run: told in a sentence, and nothing is lost."""

import json
import signal
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
