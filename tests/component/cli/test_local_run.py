"""Training on this machine through the real command line: what a user sees, gets and keeps."""

import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.cli import Cli
from tests.support.signals import to_another_thread


def path_of(url: str) -> Path:
    return Path(urlsplit(url).path)


def test_hello_trains_and_keeps_its_outputs(cli: Cli, repository: Path) -> None:
    record = cli.json("run", str(repository / "examples" / "hello"))

    assert {"name", "phase", "exitCode", "reason", "message", "outputs", "logs", "storage", "timings"} == set(record)
    assert ("Completed", 0) == (record["phase"], record["exitCode"])
    assert ["model.json"] == [one["path"] for one in record["outputs"]]
    kept = path_of(record["storage"]) / "attempts/1/0"
    assert record["outputs"][0]["sha256"] == hashlib.sha256((kept / "outputs/model.json").read_bytes()).hexdigest()
    assert "epoch 5" in path_of(record["logs"]).read_text()
    assert {"Preparing", "Running", "Finalizing"} == set(record["timings"])
    assert json.loads((kept / "seal.json").read_text())["complete"] is True
    assert (cli.folder / ".stoker/jobs" / record["name"] / "outputs/model.json").is_file()


def test_the_record_is_the_only_thing_on_standard_output(cli: Cli, repository: Path) -> None:
    done = cli("run", str(repository / "examples" / "hello"), "-o", "json")

    assert json.loads(done.stdout)["phase"] == "Completed"
    assert "epoch 5" in done.stderr


def test_without_a_record_the_log_is_the_data(cli: Cli, repository: Path) -> None:
    done = cli("run", str(repository / "examples" / "hello"))

    assert done.stdout.splitlines()[-1].startswith("epoch 5")
    labels = [line.split()[0] for line in done.stderr.splitlines()]
    assert ["snapshot", "environment", "compute", "command", "python", "run", "outputs", "done"] == labels


def test_two_ranks_talk_to_each_other(cli: Cli, repository: Path) -> None:
    done = cli("run", str(repository / "examples" / "two-nodes"), "-q")
    cli("pull", "@last", "got")

    assert "[r0] 2 ranks are here" in done.stdout
    assert "[r1] step 5" in done.stdout
    assert 2 == json.loads((cli.folder / "got/ranks.json").read_text())["ranks"]


@pytest.mark.parametrize(
    ("text", "code", "reason", "words"),
    [
        ("import sys; print('almost'); sys.exit(3)", 3, "CommandFailed", "almost"),
        ("raise ValueError('learning rate')", 1, "CommandFailed", "ValueError: learning rate"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "CommandFailed", ""),
    ],
)
def test_the_exit_code_is_the_jobs_own(cli: Cli, text: str, code: int, reason: str, words: str) -> None:
    cli.write(train__py=text)

    record = cli.json("run", "train.py", code=code)

    assert ("Failed", code, reason) == (record["phase"], record["exitCode"], record["reason"])
    assert words in record["message"]


def test_a_job_file_without_code_is_told_so_before_it_runs(cli: Cli) -> None:
    cli.write(train__py="", job__yaml="command: python train.py\n")

    told = cli("run", code=2).stderr

    assert "job.yaml names no code; this folder is code: ." in told
    assert "names no code" not in cli("run", "train.py").stderr


def test_a_command_that_does_not_exist_is_told_in_words_that_fit_a_laptop(cli: Cli) -> None:
    cli.write(job__yaml="command: trian --fast\n")

    record = cli.json("run", code=127)

    assert "CommandNotFound" == record["reason"]
    assert "there is no 'trian' on PATH; name an image or an environment that has it" in record["message"]


def test_the_runs_of_a_pool_are_not_none_when_no_cluster_can_be_asked(cli: Cli) -> None:
    told = cli("ls", "--compute", "gpu", code=125)

    assert "no kubeconfig" in told.stderr
    assert "" == told.stdout


def test_an_empty_job_file_is_told_what_is_wanted(cli: Cli) -> None:
    cli.write(job__yaml="")

    assert "job.yaml: is empty; write at least command: ..." in cli("run", code=2).stderr


def test_what_is_no_file_and_was_not_saved_is_said(cli: Cli) -> None:
    """A link to a model elsewhere once went missing without a word."""
    cli.write(t__py="import os; os.symlink('/etc/hostname', 'outputs/best.pt'); os.mkfifo('outputs/pipe')")

    record = cli.json("run", "t.py")

    assert ["best.pt", "pipe"] == [one["path"] for one in record["skipped"]]
    assert record["skipped"] == cli.json("show", "@last")["skipped"]
    link = "not saved: outputs/best.pt: a link that leads out of the working directory (/etc/hostname)"
    assert link in cli("show", "@last").stdout
    assert link in cli("run", "t.py").stderr


def test_a_missing_entry_file_is_named(cli: Cli) -> None:
    cli.write(train__py="", job__yaml="command: python trian.py\ncode: .\n")

    record = cli.json("run", code=2)

    assert "EntryFileMissing" == record["reason"]
    assert "trian.py" in record["message"]
    assert "train.py" in record["message"]


def test_a_timeout_ends_with_124(cli: Cli) -> None:
    cli.write(train__py="import time; print('on', flush=True); time.sleep(60)")

    record = cli.json("run", "train.py", "--timeout", "1", code=124)

    assert ("Failed", "TimedOut") == (record["phase"], record["reason"])


def test_ctrl_c_cancels_and_keeps_what_was_written(cli: Cli) -> None:
    cli.write(
        train__py="import time, pathlib\npathlib.Path('outputs/half').write_text('h')\nprint('go', flush=True)\ntime.sleep(60)\n"
    )
    process = cli.start("run", "train.py", "-o", "json")
    assert process.stderr is not None
    while "go" not in process.stderr.readline():
        assert process.poll() is None

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)

    record = json.loads(out)
    assert (130, "Canceled") == (process.returncode, record["phase"])
    assert ["half"] == [one["path"] for one in record["outputs"]]


def test_ctrl_c_that_another_thread_takes_cancels_too(cli: Cli) -> None:
    cli.write(train__py="import time\nprint('go', flush=True)\ntime.sleep(60)\n")
    process = cli.start("run", "train.py", "-o", "json")
    assert process.stderr is not None
    while "go" not in process.stderr.readline():
        assert process.poll() is None

    to_another_thread(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=30)

    assert (130, "Canceled") == (process.returncode, json.loads(out)["phase"])


def test_a_second_ctrl_c_does_not_wait(cli: Cli) -> None:
    cli.write(
        train__py="import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('go', flush=True)\ntime.sleep(60)\n"
    )
    process = cli.start("run", "train.py")
    assert process.stdout is not None
    assert process.stderr is not None
    while "go" not in process.stdout.readline():
        assert process.poll() is None

    process.send_signal(signal.SIGINT)
    while "cancelling" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)

    assert 130 == process.returncode


def test_cancel_from_another_terminal(cli: Cli) -> None:
    cli.write(train__py="import time\nprint('go', flush=True)\ntime.sleep(60)\n")
    process = cli.start("run", "train.py", "--name", "long")
    assert process.stdout is not None
    while "go" not in process.stdout.readline():
        assert process.poll() is None

    assert "Running" == cli.json("ls")[0]["phase"]
    assert {"name": "long", "cancelled": True} == cli.json("cancel", "long")
    process.communicate(timeout=30)

    assert 130 == process.returncode
    assert {"name": "long", "cancelled": False} == cli.json("cancel", "long")


def test_variables_inputs_and_named_outputs(cli: Cli) -> None:
    (cli.folder / "data").mkdir()
    (cli.folder / "data" / "x.csv").write_text("1,2\n")
    cli.write(
        job__yaml=(
            "command: python t.py ${{inputs.lr}} ${{inputs.data}} ${{outputs.model}}\ncode: src\n"
            "inputs: {lr: 0.10, data: {type: uri_folder, path: data}, one: {type: uri_file, path: data/x.csv}}\n"
            "outputs: {model: {}}\nenvironment_variables: {MINE: v}\n"
        )
    )
    (cli.folder / "src").mkdir()
    (cli.folder / "src" / "t.py").write_text(
        "import os, sys, pathlib\n"
        "lr, data, model = sys.argv[1:]\n"
        "assert lr == os.environ['STOKER_INPUT_lr'] == '0.10'\n"
        "assert pathlib.Path(data, 'x.csv').read_text() == pathlib.Path(os.environ['STOKER_INPUT_one']).read_text()\n"
        "assert model == os.environ['STOKER_OUTPUT_model']\n"
        "assert os.environ['MINE'] == 'v' and os.environ['STOKER_RANK'] == '0' and os.environ['STOKER_NODE_COUNT'] == '1'\n"
        "assert pathlib.Path('t.py').exists() and pathlib.Path('outputs').is_dir() and pathlib.Path('logs').is_dir()\n"
        "pathlib.Path(model, 'm.bin').write_bytes(b'm')\n"
        "pathlib.Path('logs', 'extra.log').write_text('x')\n"
    )

    record = cli.json("run", "--name", "ports")

    assert ["model/m.bin"] == [one["path"] for one in record["outputs"]]
    job = json.loads((path_of(record["storage"]) / "job.json").read_text())
    assert {"type": "literal", "value": "0.10"} == job["inputs"]["lr"]
    assert job["snapshot"].startswith("sha256:")
    assert "local" == job["compute"]


def test_outputs_that_came_with_the_code_are_none(cli: Cli) -> None:
    (cli.folder / "outputs").mkdir()
    (cli.folder / "outputs" / "old").write_text("old")
    cli.write(t__py="open('outputs/new', 'w').write('n')")

    assert ["new"] == [one["path"] for one in cli.json("run", "t.py")["outputs"]]


def test_the_hint_after_a_run_in_a_storage_of_its_own_works(cli: Cli, tmp_path: Path) -> None:
    cli.write(t__py="import pathlib\npathlib.Path('outputs/m').write_text('m')\n")
    done = cli("run", "t.py", "--storage", str(tmp_path / "store"))

    hint = next(line for line in done.stderr.splitlines() if "stoker pull" in line)
    words = hint[hint.index("stoker pull") :].partition(" · ")[0].split()[1:]
    cli(*words, str(tmp_path / "pulled"))
    assert "m" == (tmp_path / "pulled" / "m").read_text()


def test_a_storage_folder_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    cli.write(t__py="open('outputs/a', 'w').write('a')")

    record = cli.json("run", "t.py", "--storage", str(tmp_path / "store"))

    assert path_of(record["storage"]).is_relative_to(tmp_path / "store")
    assert [record["name"]] == [one["name"] for one in cli.json("ls", "--storage", str(tmp_path / "store"))]
    assert [] == cli.json("ls")


def test_modules_of_the_project_do_not_stand_in_for_ours(cli: Cli) -> None:
    cli.write(json__py="raise SystemExit(9)", stoker__py="raise SystemExit(9)", t__py="print('fine')")

    assert "fine" in cli("run", "t.py").stdout


def test_what_is_kept_is_listed_shown_read_and_pulled(cli: Cli, repository: Path) -> None:
    record = cli.json("run", str(repository / "examples" / "hello"), "--experiment", "e", "--tag", "k=v")
    name = record["name"]

    listed = cli.json("ls", "--experiment", "e")[0]
    shown = cli.json("show", name[:-2])
    pulled = cli.json("pull", "@last", "got")

    assert (name, "Completed", "local", {"example": "hello", "k": "v"}) == (
        listed["name"], listed["phase"], listed["compute"], listed["tags"],
    )  # fmt: skip
    assert record["outputs"] == shown["outputs"] == pulled["files"]
    assert record["logs"] == shown["logs"]
    assert "epoch 5" in cli("logs", name).stdout
    assert "Completed" == cli.json("why", name)["phase"]
    assert name == cli("ls", "-o", "name").stdout.strip()
    assert (cli.folder / "got" / "model.json").is_file()


def test_pull_leaves_other_files_alone_and_repairs_its_own_parts(cli: Cli, repository: Path) -> None:
    cli("run", str(repository / "examples" / "hello"), "-q")
    got = cli.folder / "got"
    got.mkdir()
    (got / "model.json.stoker-part").write_text("bytes of another pull, longer or not")

    cli("pull", "@last", "got")
    cli("pull", "@last", "got")
    (got / "model.json").write_text("mine")
    refused = cli("pull", "@last", "got", code=2)

    assert "mine" == (got / "model.json").read_text()
    assert "--force" in refused.stderr
    cli("pull", "@last", "got", "--force")
    assert "mine" != (got / "model.json").read_text()


def test_a_reference_must_mean_one_run(cli: Cli) -> None:
    cli.write(t__py="")
    for name in ("alpha-1", "alpha-2", "alpha"):
        cli("run", "t.py", "--name", name, "-q")

    assert "alpha" == cli.json("show", "alpha")["name"]
    assert "alpha-1" == cli.json("show", "alpha-1")["name"]
    assert "several: alpha, alpha-1, alpha-2" in cli("show", "alph", code=2).stderr
    assert "no run 'beta'" in cli("show", "beta", code=2).stderr
    assert "not a reference" in cli("show", "@first", code=2).stderr


def test_logs_wait_exits_as_the_run_did(cli: Cli) -> None:
    cli.write(t__py="import sys; sys.exit(7)")
    cli("run", "t.py", code=7)

    cli("logs", "@last", "--wait", code=7)


def test_a_killed_stoker_leaves_a_run_that_says_so(cli: Cli) -> None:
    cli.write(t__py="import os, signal, time\nprint('go', flush=True)\ntime.sleep(2)\n")
    process = cli.start("run", "t.py", "--name", "cut")
    assert process.stdout is not None
    while "go" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=30)

    said = cli.json("why", "cut")
    assert ("Failed", "Interrupted") == (said["phase"], said["reason"])
    assert "no stored end: stoker was killed, or its store could not be written" in said["message"]


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is not Stoker's."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def killed_run(cli: Cli, name: str) -> Path:
    """A run whose stoker was killed; its note."""
    cli.write(t__py="import time\nprint('go', flush=True)\ntime.sleep(60)\n")
    process = cli.start("run", "t.py", "--name", name)
    assert process.stdout is not None
    while "go" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.wait()
    (note,) = (cli.cache / "stoker" / "running").iterdir()
    return note


@pytest.mark.parametrize("words", ["{pid}", "{pid} {start}"])
def test_a_process_that_got_the_number_of_a_killed_stoker_is_left_alone(
    cli: Cli, bystander: "subprocess.Popen[bytes]", words: str
) -> None:
    start = Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(")")[2].split()[19]
    killed_run(cli, "cut").write_text(words.format(pid=bystander.pid, start=start))

    assert "Failed" == cli.json("ls")[0]["phase"]
    assert {"name": "cut", "cancelled": False} == cli.json("cancel", "cut")
    assert ["cut"] == [one["name"] for one in cli.json("rm", "cut", "-y")["removed"]]
    assert bystander.poll() is None


def test_cancel_signals_nobody_for_a_run_of_another_container(cli: Cli, bystander: "subprocess.Popen[bytes]") -> None:
    """Its note is locked, and the number in it means another process here."""
    note = killed_run(cli, "away")
    with note.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(f"{bystander.pid} 1")
        held.truncate()
        held.flush()

        assert "Running" == cli.json("ls")[0]["phase"]
        assert "away runs in another container" in cli("cancel", "away", code=2).stderr
        assert "away" in cli("rm", "away", "-y", code=2).stderr
    assert bystander.poll() is None


def test_a_run_that_cannot_be_noted_says_so(cli: Cli) -> None:
    cli.write(t__py="print('trains')\n")
    (cli.cache / "stoker").mkdir()
    (cli.cache / "stoker" / "running").write_text("in the way")

    done = cli("run", "t.py", "-q")

    (line,) = (line for line in done.stderr.splitlines() if "cannot be written to" in line)
    assert str(cli.cache / "stoker" / "running") in line
    assert "Interrupted" in line
    assert "XDG_CACHE_HOME" in line
    assert "trains" in done.stdout


def test_a_command_that_ignores_sigterm_ends_with_a_killed_stoker(cli: Cli, tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    cli.write(
        m__yaml=(
            "apiVersion: stoker.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: deaf}\nspec:\n"
            "  limits: {graceSeconds: 10}\n  command:\n"
            f"    command: trap '' TERM; exec 9>{fifo}; echo >&9; while :; do sleep 1; done\n"
            "    environment: {spec: {image: 'python:3.12'}}\n"
        )
    )
    alive = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    process = cli.start("run", "m.yaml")
    try:
        assert select.select([alive], [], [], 60)[0]
        assert b"\n" == os.read(alive, 1)

        process.kill()
        process.wait()

        assert select.select([alive], [], [], 30)[0], "the command runs on"
        assert b"" == os.read(alive, 1)
    finally:
        os.close(alive)


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_command_ends_with_a_killed_stoker(cli: Cli, tmp_path: Path, nodes: int) -> None:
    """Its processes hold a FIFO open: the end of it is the end of them all."""
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    cli.write(
        job__yaml=f"command: python t.py {fifo}\ncode: .\nresources: {{instance_count: {nodes}}}\n",
        t__py=(
            "import subprocess, sys\n"
            "with open(sys.argv[1], 'wb', buffering=0) as alive:\n"
            "    child = subprocess.Popen(['sleep', '600'], stdout=alive)\n"
            "    alive.write(b'.')\n"
            "    child.wait()\n"
        ),
    )
    alive = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    process = cli.start("run")
    begun = 0
    while begun < nodes:
        assert select.select([alive], [], [], 60)[0]
        begun += len(os.read(alive, nodes))
        assert process.poll() is None

    process.kill()
    process.wait()

    try:
        assert select.select([alive], [], [], 30)[0], "the command's processes run on"
        assert b"" == os.read(alive, 1)
    finally:
        os.close(alive)


def test_dry_run_prints_the_manifest_and_keeps_nothing(cli: Cli, repository: Path) -> None:
    document = cli.json("run", str(repository / "examples" / "hello"), "--dry-run", "--compute", "cpu", "--name", "h")

    assert ("TrainingJob", "h", "cpu") == (document["kind"], document["metadata"]["name"], document["spec"]["compute"])
    assert not (cli.folder / ".stoker").exists()


def test_init_writes_a_job_that_runs_and_overwrites_nothing(cli: Cli) -> None:
    cli("init")
    cli.write(**{"__amlignore": "mine"})
    cli("init")

    assert "mine" == (cli.folder / ".amlignore").read_text()
    assert ["result.txt"] == [one["path"] for one in cli.json("run")["outputs"]]


def test_a_manifest_with_inline_code_runs_here_too(cli: Cli) -> None:
    cli.write(
        m__yaml=(
            "apiVersion: stoker.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: inline}\nspec:\n"
            "  inputs: {who: {value: me}}\n  command:\n    command: python t.py ${{inputs.who}}\n"
            "    code: {inline: {t.py: 'import sys; print(\"hi\", sys.argv[1])'}}\n    environment: {spec: {image: 'python:3.12'}}\n"
        )
    )

    assert "hi me" in cli("run", "m.yaml").stdout


def test_over_300_mb_a_yes_is_needed(cli: Cli) -> None:
    cli.write(t__py="print('small')")
    with (cli.folder / "big.bin").open("wb") as file:
        file.truncate(301_000_000)

    refused = cli("run", "t.py", code=2)

    assert "big.bin" in refused.stderr
    assert "add -y" in refused.stderr
    assert not (cli.folder / ".stoker" / "jobs").exists()


def test_a_local_run_cannot_be_suspended(cli: Cli, repository: Path) -> None:
    cli("run", str(repository / "examples" / "hello"), "-q")

    refused = cli("suspend", "@last", code=2)

    assert "a run of this machine" in refused.stderr
    assert "stoker cancel" in refused.stderr


def test_a_local_run_has_no_operators_plan(cli: Cli) -> None:
    cli.write(t__py="print(1)\n")
    cli("run", "t.py", "--name", "here", "-q")

    assert "here runs on this machine" in cli("why", "here", "--plan", code=2).stderr


#: A file stands where the store keeps this run's outputs, or all of this run: as full as a disk that takes nothing.
_IN_THE_WAY = """import os, pathlib, shutil
place = pathlib.Path({jobs!r}, os.environ["STOKER_JOB"]{below})
shutil.rmtree(place, ignore_errors=True)
place.parent.mkdir(parents=True, exist_ok=True)
place.write_text("in the way")
pathlib.Path("outputs/model").write_text("weights")
"""


def _manifest(command: str, more: str = "") -> str:
    return (
        "apiVersion: stoker.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: full}\nspec:\n"
        f"{more}  command:\n    command: {command}\n    environment: {{spec: {{image: 'python:3.12'}}}}\n"
    )


def _not_savable(cli: Cli, tmp_path: Path, below: str) -> Path:
    """A run whose outputs no store takes; where its scratch folder lies."""
    (tmp_path / "tmp").mkdir()
    cli.env["TMPDIR"] = str(tmp_path / "tmp")
    text = _IN_THE_WAY.format(jobs=str(cli.folder / ".stoker/jobs"), below=below)
    cli.write(
        m__yaml=_manifest(
            "python t.py\n    code: {inline: {t.py: " + json.dumps(text) + "}}", "  limits: {saveStallSeconds: 10}\n"
        )
    )
    return tmp_path / "tmp"


def test_what_could_not_be_saved_stays_where_it_was_written(cli: Cli, tmp_path: Path) -> None:
    scratch = _not_savable(cli, tmp_path, ', "attempts/1/0/outputs"')

    done = cli("run", "m.yaml", "-q", "-o", "json", code=125)

    record = json.loads(done.stdout)
    assert ("Failed", "OutputsNotSaved") == (record["phase"], record["reason"])
    (kept,) = scratch.glob("stoker-*/r0/work/outputs/model")
    assert "weights" == kept.read_text()
    assert str(kept.parent) in record["message"]
    assert f"copy them from {kept.parent}" in done.stderr
    assert str(kept.parent) in cli.json("why", "full")["message"]


def test_an_end_that_could_not_be_stored_is_told_with_what_is_unsaved(cli: Cli, tmp_path: Path) -> None:
    scratch = _not_savable(cli, tmp_path, "")

    said = cli("run", "m.yaml", "-q", code=125).stderr

    (kept,) = scratch.glob("stoker-*/r0/work/outputs/model")
    assert "the end of full is not stored" in said
    assert f"copy them from {kept.parent}" in said
    assert "space" in said


def test_a_run_that_is_saved_leaves_no_scratch_folder(cli: Cli, tmp_path: Path) -> None:
    cli.env["TMPDIR"] = str(tmp_path)
    cli.write(t__py="import pathlib, sys\npathlib.Path('outputs/m').write_text('w')\nsys.exit(3)\n")

    cli("run", "t.py", code=3)

    assert not list(tmp_path.glob("stoker-*"))


def test_fields_that_only_a_cluster_honours_are_named(cli: Cli) -> None:
    more = "  suspend: true\n  retry: {limit: 2}\n  limits: {queueTimeoutSeconds: 60}\n"
    cli.write(m__yaml=_manifest("echo hi", more))

    said = cli("run", "m.yaml").stderr

    assert "not for local runs: spec.retry, spec.suspend, spec.limits.queueTimeoutSeconds" in said


@pytest.mark.parametrize(
    ("command", "more", "reason"),
    [
        (
            "head -c 30000000 /dev/zero > big; sleep 90\n    resources: {scratch: {size: 1Mi}}",
            "",
            "ScratchLimitExceeded",
        ),
        ("sleep 90", "  limits: {noProgressSeconds: 10}\n", "NoProgress"),
    ],
)
def test_limits_of_disk_and_of_progress_hold_here_too(cli: Cli, command: str, more: str, reason: str) -> None:
    cli.write(m__yaml=_manifest(command, more))

    assert reason == cli.json("run", "m.yaml", code=143)["reason"]


@pytest.fixture
def read_only(cli: Cli) -> Cli:
    """The command line in a folder that not even root can write into."""
    cli.write(t__py="print('hello')\n")
    mounts = f"mount --bind {cli.folder} {cli.folder} && mount -o remount,bind,ro {cli.folder} && cd {cli.folder}"
    cli.within = ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")
    return cli


def test_a_folder_that_cannot_be_written_into_is_told_before_anything_is_done(read_only: Cli) -> None:
    said = read_only("run", "t.py", "--environment", "system", code=2)

    assert ("", f"stoker: storage: {read_only.folder}/.stoker cannot be made: {read_only.folder} cannot be written into, and "
            "the run would be kept there; name a folder or bucket that can: --storage URL|DIR\n") == (said.stdout, said.stderr)  # fmt: skip


def test_code_in_a_read_only_folder_runs_when_its_run_is_kept_elsewhere(read_only: Cli, tmp_path: Path) -> None:
    done = read_only("run", "t.py", "--environment", "system", "--storage", str(tmp_path / "runs"))

    assert "hello" in done.stdout + done.stderr
    assert list((tmp_path / "runs" / "jobs").iterdir())


@pytest.mark.parametrize(
    ("place", "words"), [("t.py", "/t.py is no folder"), ("t.py/below", "/t.py/below cannot be made: ")]
)
def test_a_storage_that_is_no_place_for_files_is_named(cli: Cli, place: str, words: str) -> None:
    cli.write(t__py="print('hello')\n")
    said = cli("run", "t.py", "--environment", "system", "--storage", place, code=2)

    assert said.stderr.startswith("stoker: --storage: ")
    assert words in said.stderr


def test_a_file_that_cannot_be_written_is_told_without_an_error_number(read_only: Cli) -> None:
    assert "stoker: job.yaml: Read-only file system\n" == read_only("init", code=125).stderr
