"""launch, as a real process: under Python and, where no Python is, under sh alone."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime.configure import LaunchConfig, pod_config, write_config
from tests.component.runtime.pod import Pod, eventually

#: What a small image without Python has.
TOOLS = ("sh", "cat", "sleep", "mkfifo", "mv", "rm", "date", "wc", "tr", "tail", "setsid", "seq", "kill", "env")


@pytest.fixture(params=["python", "sh"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """PATH of the image; the second one has no python."""
    if request.param == "python":
        yield os.environ["PATH"]
        return
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (tools / tool).symlink_to(found)
    yield str(tools)


@pytest.mark.parametrize("code", [0, 3, 127, 255])
def test_the_exit_code_is_the_commands_own(pod: Pod, path: str, code: int) -> None:
    returned, record, _ = pod.run(f"exit {code}", PATH=path)

    assert (code, code, None) == (returned, record["code"], record["signal"])


def test_a_signal_is_told_as_shells_do(pod: Pod, path: str) -> None:
    returned, record, _ = pod.run("kill -KILL $$", PATH=path)

    assert (returned, record["code"], record["signal"]) == (137, 137, 9)


def test_stdout_and_stderr_are_the_log_and_reach_our_stdout(pod: Pod, path: str) -> None:
    _, record, output = pod.run("echo one; echo two >&2; printf three", PATH=path)

    assert pod.log == b"one\ntwo\nthree"
    assert output == "one\ntwo\nthree"
    assert (record["logBytes"], record["startedAt"] <= record["finishedAt"]) == (13, True)


def test_what_the_user_did_not_set_is_set(pod: Pod, path: str) -> None:
    write_config(pod.scratch, pod_config({"env": {"USER": "ada"}}, pod.scratch, {"data": "/in/data/a b.csv"}))

    _, _, output = pod.run(
        'echo "$HOME|$USER|$LOGNAME|$TMPDIR|$STOKER_INPUT_data|$PYTHONUNBUFFERED"', PATH=path, USER="ada"
    )

    expected = [pod.scratch.home, "ada", "stoker", pod.scratch.tmp, "/in/data/a b.csv", "1"]
    assert expected == output.strip().split("|")


def test_home_of_the_user_stays(pod: Pod, path: str) -> None:
    write_config(pod.scratch, pod_config({"env": {"HOME": "/data"}}, pod.scratch, {}))

    assert pod.run("echo $HOME", PATH=path, HOME="/data")[2] == "/data\n"


def test_home_that_comes_from_a_configmap_stays(pod: Pod, path: str) -> None:
    drawn = {"HOME": {"configMapKeyRef": {"name": "c", "key": "home"}}}
    write_config(pod.scratch, pod_config({"envReferences": drawn}, pod.scratch, {}))

    assert pod.run("echo $HOME", PATH=path, HOME="/data")[2] == "/data\n"


def test_a_secret_with_our_names_among_its_keys_replaces_none_of_them(pod: Pod, path: str) -> None:
    write_config(pod.scratch, pod_config({"key": "iris-1"}, pod.scratch, {}, attempt=2))
    forged = {"STOKER_JOB": "other", "STOKER_ATTEMPT": "9", "STOKER_RANK": "5", "STOKER_HOSTS": "evil"}

    _, _, output = pod.run(
        'echo "$STOKER_JOB $STOKER_ATTEMPT $STOKER_RANK $STOKER_HOSTS $MASTER_PORT"',
        PATH=path,
        MASTER_PORT="1",
        **forged,
    )

    assert output == "iris-1 2 0 localhost 1\n"


def test_a_secret_input_is_the_commands_whatever_is_in_it(pod: Pod, path: str) -> None:
    write_config(pod.scratch, pod_config({}, pod.scratch, {}))
    value = "a b$(echo no)`echo no`'\"*"

    _, _, output = pod.run('printf "%s" "${STOKER_INPUT_token}"', PATH=path, STOKER_INPUT_token=value)

    assert output == value


def test_getuser_works_for_a_uid_without_a_passwd_entry(pod: Pod) -> None:
    write_config(pod.scratch, pod_config({}, pod.scratch, {}))
    script = "import getpass, os, pathlib; pathlib.Path('~/x').expanduser().touch(); print(getpass.getuser())"

    code, _, output = pod.run(f'python3 -c "{script}"')

    assert (code, output) == (0, "stoker\n")
    assert os.path.exists(pod.scratch.home + "/x")


def test_the_line_is_on_stdout_before_the_command_ends(pod: Pod) -> None:
    process = pod.launch("sh", "-c", "echo now; sleep 20")

    assert process.stdout is not None
    assert process.stdout.readline() == b"now\n"
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def test_a_term_reaches_the_command_which_may_save_and_end(pod: Pod, path: str) -> None:
    script = "trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    process = pod.launch("sh", "-c", script, PATH=path)
    eventually(lambda: b"ready" in pod.log if os.path.exists(pod.scratch.raw_log) else False)

    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0
    assert b"saving" in pod.log
    assert pod.exit["reason"] == "Stopped", "an early end with code 0 must not look like a good end"
    assert os.path.exists(pod.scratch.stopping)


def test_a_command_that_ignores_term_is_killed_after_its_share_of_the_grace(pod: Pod, path: str) -> None:
    write_config(pod.scratch, LaunchConfig(grace_seconds=10))
    process = pod.launch("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done", PATH=path)
    eventually(lambda: os.path.exists(pod.scratch.raw_log) and b"ready" in pod.log)
    begun = time.monotonic()

    process.send_signal(signal.SIGTERM)

    assert process.wait(15) == 137
    assert 1.5 < time.monotonic() - begun < 6, "a fifth of the grace period"


def test_other_signals_are_passed_on(pod: Pod, path: str) -> None:
    process = pod.launch(
        "sh", "-c", "trap 'echo usr1; exit 9' USR1; echo ready; while :; do sleep 0.05; done", PATH=path
    )
    eventually(lambda: os.path.exists(pod.scratch.raw_log) and b"ready" in pod.log)

    process.send_signal(signal.SIGUSR1)

    assert process.wait(10) == 9
    assert pod.log.endswith(b"usr1\n")
    assert pod.exit["reason"] is None


def test_timeout_ends_the_command_with_its_reason(pod: Pod, path: str) -> None:
    write_config(pod.scratch, LaunchConfig(timeout_seconds=1))

    code, record, _ = pod.run("echo begun; sleep 30", PATH=path)

    assert (code, record["reason"], record["code"]) == (143, "TimedOut", 143)
    assert "limits.timeoutSeconds = 1" in record["message"]


def test_what_the_command_leaves_running_is_ended(pod: Pod, path: str) -> None:
    code, _, _ = pod.run("sleep 61.5 & echo $! > outputs/pid; exit 0", PATH=path)

    pid = int((pod.work / "outputs/pid").read_text())
    assert code == 0
    eventually(lambda: not os.path.exists(f"/proc/{pid}") or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def test_the_fifo_is_held_by_launch_alone_and_closed_at_its_death(pod: Pod, path: str) -> None:
    reader = os.open(pod.scratch.alive, os.O_RDONLY | os.O_NONBLOCK)
    process = pod.launch("sh", "-c", "echo $$; sleep 30", PATH=path)
    eventually(lambda: os.path.exists(pod.scratch.raw_log) and pod.log.endswith(b"\n"))
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)

    process.kill()
    process.wait()

    eventually(lambda: _read(reader) == b"")
    os.close(reader)
    os.kill(int(pod.log), signal.SIGKILL)


def _read(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, 1)
    except BlockingIOError:
        return None


def test_at_a_normal_end_launch_waits_until_the_outputs_are_saved(pod: Pod, path: str) -> None:
    process = pod.launch("sh", "-c", "exit 4", wait=True, PATH=path)
    eventually(lambda: os.path.exists(pod.scratch.exit))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)

    Path(pod.scratch.sealed).write_text(json.dumps({"complete": True}, indent=2))

    assert process.wait(5) == 4


def test_unsaved_outputs_are_a_failure_of_the_platform(pod: Pod, path: str) -> None:
    process = pod.launch("sh", "-c", "exit 0", wait=True, PATH=path)
    outcome = {"complete": False, "reason": "OutputsNotSaved", "message": "a.bin: no bucket"}
    Path(pod.scratch.sealed).write_text(json.dumps(outcome, indent=2))

    _, errors = process.communicate(timeout=10)

    assert process.returncode == 125
    assert b"a.bin: no bucket" in errors


def test_the_termination_message_has_the_last_lines(pod: Pod, path: str) -> None:
    pod.run("echo first; echo the end; exit 1", PATH=path)

    assert pod.termination.read_text().endswith("first\nthe end\n")


def test_a_python_exception_is_in_the_exit_record(pod: Pod) -> None:
    code, record, _ = pod.run("python3 -c 'raise ValueError(42)'")

    assert (code, record["code"], record["reason"]) == (1, 1, None)
    assert record["logTail"].endswith("ValueError: 42\n")


def test_a_missing_entry_file_is_named_with_what_there_is(pod: Pod) -> None:
    (pod.work / "trian.py").touch()

    code, record, _ = pod.run("python3 train.py")

    assert (code, record["reason"]) == (2, "EntryFileMissing")
    assert "'train.py', which is not there; the code has: trian.py" in record["message"]


def test_a_missing_command_is_named(pod: Pod) -> None:
    code, record, _ = pod.run("pyhton train.py")

    assert (code, record["reason"]) == (127, "CommandNotFound")
    assert "'pyhton'" in record["message"]


def test_a_missing_program_is_named(pod: Pod) -> None:
    process = pod.launch("/nowhere/train", "--fast")

    assert process.wait(10) == 127
    assert (pod.exit["reason"], pod.exit["code"]) == ("CommandNotFound", 127)


def test_packages_that_the_image_lacks_are_named_before_the_command_runs(pod: Pod) -> None:
    write_config(pod.scratch, LaunchConfig(pip=["pytest", "no-such-package-here>=2", "pytest<1"]))

    code, record, _ = pod.run("touch outputs/ran")

    assert (code, record["code"], record["reason"]) == (125, None, "PackagesNotInImage")
    assert re.search(r"lacks no-such-package-here>=2, pytest<1 \(the image has [\d.]+\)", record["message"])
    assert not (pod.work / "outputs/ran").exists()


def test_without_any_python_a_list_of_packages_is_not_in_the_image(pod: Pod, tmp_path: Path) -> None:
    write_config(pod.scratch, LaunchConfig(pip=["numpy"]))
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool) or "/nonexistent")

    code, record, _ = pod.run("touch outputs/ran", PATH=str(tools))

    assert (code, record["reason"]) == (125, "PackagesNotInImage")
    assert b"numpy" in pod.log


def test_a_log_over_its_limit_ends_the_command_before_the_disk_is_full(pod: Pod) -> None:
    write_config(pod.scratch, LaunchConfig(log_bytes=200_000))

    code, record, _ = pod.run("yes 'a long line of nothing in particular'")

    assert code in (137, 143)
    assert record["reason"] == "LogLimitExceeded"
    assert "may have 200 KB" in record["message"]


def test_scratch_over_its_limit_ends_the_command(pod: Pod) -> None:
    write_config(pod.scratch, LaunchConfig(scratch_bytes=3_000_000))

    _, record, _ = pod.run("head -c 5000000 /dev/zero > outputs/big; sleep 30")

    assert record["reason"] == "ScratchLimitExceeded"


def test_a_command_that_gets_nowhere_is_ended_with_its_reason(pod: Pod) -> None:
    write_config(pod.scratch, LaunchConfig(grace_seconds=10))
    begun = time.monotonic()

    code, record, output = pod.run(
        "echo begun; sleep 1; echo x > outputs/x; exec sleep 60", STOKER_NO_PROGRESS_SECONDS="2"
    )

    assert (code, record["reason"]) == (143, "NoProgress")
    assert record["message"] == "no new log line and no new file for 2 s (limits.noProgressSeconds)"
    assert record["message"] in output
    assert 2.9 < time.monotonic() - begun < 20


def test_of_several_nodes_only_rank_0_is_asked_for_progress(pod: Pod) -> None:
    code, record, _ = pod.run("sleep 3", STOKER_NO_PROGRESS_SECONDS="1", STOKER_RANK="1")

    assert (code, record["reason"]) == (0, None)


def test_where_nobody_can_watch_for_progress_the_log_says_so(pod: Pod) -> None:
    code, record, output = pod.run("sleep 2", STOKER_LAUNCH_WITH="sh", STOKER_NO_PROGRESS_SECONDS="1")

    assert (code, record["reason"]) == (0, None)
    assert "limits.noProgressSeconds needs Python 3.8" in output


def test_a_flood_of_output_is_copied_whole(pod: Pod, path: str) -> None:
    code, record, output = pod.run("seq 1 200000", PATH=path)

    assert code == 0
    assert pod.log.decode() == output == "".join(f"{n}\n" for n in range(1, 200_001))
    assert len(output) == record["logBytes"]


def test_a_reader_of_stdout_that_went_away_does_not_hurt_the_command(pod: Pod) -> None:
    process = pod.launch("sh", "-c", "sleep 0.3; seq 1 100000; exit 7")
    assert process.stdout is not None
    process.stdout.close()

    assert process.wait(20) == 7
    assert pod.log.endswith(b"100000\n")


def test_modules_of_the_user_do_not_shadow_those_of_launch(pod: Pod) -> None:
    (pod.work / "signal.py").write_text("raise SystemExit('shadowed')")
    (pod.work / "json.py").write_text("raise SystemExit('shadowed')")

    code, _, output = pod.run("echo fine", PYTHONPATH=str(pod.work))

    assert (code, output) == (0, "fine\n")


def test_a_launch_json_that_cannot_be_read_is_said(pod: Pod) -> None:
    Path(pod.scratch.launch).write_text("{")

    code, record, _ = pod.run("exit 0")

    assert (code, record["reason"]) == (125, "BadLaunchConfig")


def test_waiting_costs_next_to_nothing(pod: Pod) -> None:
    process = pod.launch("sh", "-c", "sleep 30")
    eventually(lambda: os.path.exists(pod.scratch.started))
    time.sleep(0.5)
    before = _cpu_seconds(process.pid)

    time.sleep(1.5)

    assert _cpu_seconds(process.pid) - before < 0.08


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
