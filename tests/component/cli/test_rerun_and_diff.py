"""A run of this machine, run again from its record, and compared."""

import shutil

import pytest

from tests.support.cli import Cli


@pytest.fixture
def trained(cli: Cli) -> Cli:
    """A run called `first` of a folder with data beside its code."""
    cli.write(
        train__py="import sys\nopen('outputs/model', 'w').write(' '.join(sys.argv[1:2]))\nprint(open(sys.argv[2]).read())\n",
        job__yaml="code: src\ncommand: python train.py ${{inputs.lr}} ${{inputs.table}}\n"
        "inputs: {lr: 0.1, table: {type: uri_file, path: table.csv}}\n",
        table__csv="1,2\n",
    )
    (cli.folder / "src").mkdir()
    (cli.folder / "train.py").rename(cli.folder / "src" / "train.py")
    cli("run", "--name", "first")
    return cli


def output(cli: Cli, run: str) -> str:
    cli("pull", run, f"of-{run}")
    return (cli.folder / f"of-{run}" / "model").read_text()


def test_a_run_goes_again_when_its_folder_is_gone(trained: Cli) -> None:
    shutil.rmtree(trained.folder / "src")

    trained("rerun", "first", "--name", "second")

    assert "0.1" == output(trained, "second")
    assert {"equal": True, "runs": ["first", "second"], "differences": []} == trained.json("diff", "first", "second")


def test_another_value_is_the_one_difference_besides_what_came_of_it(trained: Cli) -> None:
    trained("rerun", "first", "--set", "inputs.lr=0.2", "--name", "second")

    told = trained.json("diff", "first", "second")

    assert "0.2" == output(trained, "second")
    assert [("inputs", "lr"), ("outputs", "model")] == [(one["part"], one["name"]) for one in told["differences"]]
    assert {"name": "lr", "part": "inputs", "a": "0.1", "b": "0.2"} == told["differences"][0]


def test_exactly_is_refused_once_a_byte_of_the_data_has_changed(trained: Cli) -> None:
    trained("rerun", "first", "--exact", "--name", "second")
    trained.write(table__csv="1,3\n")

    done = trained("rerun", "first", "--exact", "--name", "third", code=2)

    assert "inputs.table: the data at" in done.stderr
    assert ["second", "first"] == [one["name"] for one in trained.json("ls")]


def test_a_changed_file_of_the_code_is_named(trained: Cli) -> None:
    with (trained.folder / "src" / "train.py").open("a") as file:
        file.write("# more\n")
    trained("run", "--name", "second")

    told = trained("diff", "first", "second", "--exit-code", code=1).stdout

    assert ["code", "  train.py"] == told.splitlines()[:2]


def test_the_manifest_of_a_repeat_can_be_had_without_a_run(trained: Cli) -> None:
    made = trained.json("rerun", "first", "--dry-run")

    assert ("TrainingJob", {"value": "0.1"}) == (made["kind"], made["spec"]["inputs"]["lr"])
    assert ["first"] == [one["name"] for one in trained.json("ls")]


def test_a_repeat_of_nothing_is_told(trained: Cli) -> None:
    assert "no run 'nobody'" in trained("rerun", "nobody", code=2).stderr
