"""ship and launch as real processes against a server and store that can fail."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from stoker.runtime import wire
from stoker.runtime.layout import write_json
from tests.component.runtime.pod import JOB, Cloud, Hangup, Pod, eventually, failing
from tests.support.signals import to_another_thread

NUMBERS = "import os\nfor n in range(10**7): os.write(1, b'%d\\n' % n)"


def paths(cloud: Cloud) -> list[str]:
    assert cloud.seal is not None
    return [file["path"] for file in cloud.seal["files"]]


def run(pod: Pod, script: str, **environment: str) -> dict[str, object]:
    """The command beside a ship that is already there; the outcome in run/sealed."""
    pod.ship(**environment)
    pod.launch("sh", "-c", script, wait=True)
    return pod.await_sealed()


def test_what_a_run_writes_is_sealed_with_its_exit_record(cloud_pod: Pod, cloud: Cloud) -> None:
    script = (
        "echo hello; mkdir outputs/model; echo w > outputs/model/w.bin; : > outputs/empty; echo m > logs/m.txt; exit 3"
    )

    outcome = run(cloud_pod, script)

    assert outcome["complete"]
    assert paths(cloud) == ["logs/m.txt", wire.LOG_PATH, "outputs/empty", "outputs/model/w.bin"]
    assert (cloud.seal["exit"]["code"], cloud.seal["exit"]["logTail"]) == (3, "hello\n")
    assert cloud.stored[wire.LOG_PATH] == b"hello\n"


def test_launch_ends_with_the_commands_code_once_all_is_saved(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud_pod.ship()

    assert cloud_pod.launch("sh", "-c", "exit 5", wait=True).wait(20) == 5
    assert cloud.seal is not None


def test_log_and_outputs_go_up_while_the_command_runs(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud_pod.ship()
    cloud_pod.launch("sh", "-c", "echo first; echo x > outputs/early; sleep 30", wait=True)

    eventually(lambda: cloud.stored.get(wire.segment_path(0)) == b"first\n")
    eventually(lambda: cloud.stored.get("outputs/early") == b"x\n")
    assert cloud.seal is None


def test_pieces_of_the_log_join_to_the_log(cloud_pod: Pod, cloud: Cloud) -> None:
    run(cloud_pod, "for n in 1 2 3 4 5; do echo $n; sleep 0.15; done; seq 1 500000")

    pieces = {p: body for p, body in cloud.stored.items() if p.startswith(wire.SEGMENT_PREFIX)}
    log, whole = b"", cloud.stored[wire.LOG_PATH]
    for path, body in sorted(pieces.items()):
        assert wire.segment_path(len(log)) == path
        log += body
    assert len(pieces) > 2
    assert whole.startswith(log)
    assert whole.endswith(b"500000\n")


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_of_launch_loses_no_byte_that_was_written(cloud_pod: Pod, cloud: Cloud, seed: int) -> None:
    cloud_pod.ship()
    process = cloud_pod.launch("python3", "-c", NUMBERS, wait=True)
    eventually(lambda: os.path.exists(cloud_pod.scratch.raw_log) and len(cloud_pod.log) > 0)
    time.sleep(random.Random(seed).uniform(0.05, 0.6))

    # A container dies as a whole; the first process is launch.
    command = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[-1])
    process.kill()
    os.kill(command, signal.SIGKILL)

    assert cloud_pod.await_sealed()["complete"]
    written, stored = cloud_pod.log, cloud.stored[wire.LOG_PATH]
    assert written == stored
    assert re.fullmatch(b"".join(b"%d\n" % n for n in range(1000)) + rb"[\d\n]*", stored)
    assert cloud.seal["exit"]["reason"] == "LauncherLost"
    assert cloud.seal["exit"]["logTail"]


@pytest.mark.parametrize("seed", range(4))
def test_a_ship_that_is_killed_goes_on_where_it_was(cloud_pod: Pod, cloud: Cloud, seed: int) -> None:
    chance = random.Random(seed)
    script = (
        "for n in $(seq 1 40); do echo line $n; head -c $((n * 5000)) /dev/urandom > outputs/$n.bin; sleep 0.02; done;"
        "head -c 3000000 /dev/urandom > outputs/last.bin"
    )
    cloud_pod.launch("sh", "-c", script, wait=True)
    for _ in range(4):
        ship = cloud_pod.ship()
        time.sleep(chance.uniform(0.15, 0.6))
        ship.kill()
        ship.wait()

    cloud_pod.ship()

    assert cloud_pod.await_sealed()["complete"]
    expected = {f"outputs/{f.name}": f.read_bytes() for f in (cloud_pod.work / "outputs").iterdir()}
    expected[wire.LOG_PATH] = cloud_pod.log
    assert expected == {path: cloud.stored[path] for path in paths(cloud)}
    assert len(expected) == 42


def test_a_ship_that_starts_after_the_end_finds_it(cloud_pod: Pod, cloud: Cloud) -> None:
    process = cloud_pod.launch("sh", "-c", "echo gone", wait=True)
    eventually(lambda: os.path.exists(cloud_pod.scratch.exit))
    process.kill()

    cloud_pod.ship()

    assert cloud_pod.await_sealed()["complete"]
    assert cloud.seal["exit"]["code"] == 0


def test_a_ship_that_starts_after_the_launcher_died_finds_that(cloud_pod: Pod, cloud: Cloud) -> None:
    process = cloud_pod.launch("sh", "-c", "sleep 30", wait=True)
    eventually(lambda: os.path.exists(cloud_pod.scratch.started))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    cloud_pod.ship()

    cloud_pod.await_sealed()
    assert cloud.seal["exit"]["reason"] == "LauncherLost"


def test_a_ship_killed_after_the_seal_seals_the_same(cloud_pod: Pod, cloud: Cloud) -> None:
    ship = cloud_pod.ship()
    cloud_pod.launch("sh", "-c", "echo x > outputs/x; exit 1")
    cloud_pod.await_sealed()
    ship.kill()
    os.unlink(cloud_pod.scratch.sealed)
    first = cloud.seal

    cloud_pod.ship()

    assert cloud_pod.await_sealed()["complete"]
    assert first == cloud.seal


def test_readiness_ends_with_the_command_while_saving_goes_on(cloud_pod: Pod, cloud: Cloud) -> None:
    port = _free_port()
    cloud.fault = lambda method, path: (503, {}, b"") if path == "/v1/seal" else None
    cloud_pod.ship(STOKER_READY_PORT=str(port))
    eventually(lambda: _status(port) == 200)
    process = cloud_pod.launch("sh", "-c", "sleep 0.5", wait=True)
    assert _status(port) == 200

    eventually(lambda: _status(port) == 503)

    assert process.poll() is None
    cloud.fault = lambda method, path: None
    assert process.wait(20) == 0
    assert _status(port) == 503


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _status(port: int) -> int:
    try:
        with urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def test_ship_stays_until_it_is_told_to_go(cloud_pod: Pod) -> None:
    ship = cloud_pod.ship()
    cloud_pod.launch("true")
    cloud_pod.await_sealed()
    with pytest.raises(subprocess.TimeoutExpired):
        ship.wait(0.3)

    ship.send_signal(signal.SIGTERM)

    assert ship.wait(5) == 0


def test_ship_goes_when_another_thread_takes_the_signal(cloud_pod: Pod) -> None:
    """Python runs handlers in the main thread alone; one that waits without end would sleep on, and the kubelet would
    keep pod and node for the rest of the grace period."""
    ship = cloud_pod.ship()
    cloud_pod.launch("true")
    cloud_pod.await_sealed()
    with pytest.raises(subprocess.TimeoutExpired):
        ship.wait(0.3)

    to_another_thread(ship.pid, signal.SIGTERM)

    assert ship.wait(5) == 0


def test_a_pod_that_ends_before_its_command_started_is_sealed_as_that(cloud_pod: Pod, cloud: Cloud) -> None:
    port = _free_port()
    ship = cloud_pod.ship(STOKER_READY_PORT=str(port))
    eventually(lambda: _status(port) == 200)

    ship.send_signal(signal.SIGTERM)

    assert ship.wait(10) == 0
    assert (cloud.seal["exit"]["reason"], cloud.seal["exit"]["code"]) == ("NotStarted", None)


# What a training script may leave behind


def test_odd_things_under_outputs_are_told_truthfully(cloud_pod: Pod, cloud: Cloud) -> None:
    secret = cloud_pod.folder / "secret"
    secret.write_text("of the agent")
    out = cloud_pod.work / "outputs"
    os.mkfifo(out / "pipe")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(out / "socket"))
    (cloud_pod.work / "data").mkdir()
    (cloud_pod.work / "data/d.txt").write_text("d")
    for name, target in {
        "broken": "nowhere",
        "loop": "loop",
        "stolen": str(secret),
        "latest": "ckpt",
        "linked": "../data",
        "file": "../data/d.txt",
        "up": "..",
    }.items():
        (out / name).symlink_to(target)
    (out / "ckpt").mkdir()
    (out / "ckpt/a").write_text("a")
    (out / "new\nline\\").write_text("odd")
    (Path(os.fsdecode(os.fsencode(str(out)) + b"/\xff\xfe"))).write_text("bytes")
    (cloud_pod.work / "logs/std_log.txt").write_text("the user's own")

    outcome = run(cloud_pod, "echo x")

    bound.close()
    assert outcome["complete"]
    assert paths(cloud) == [
        "logs/_user/std_log.txt",
        wire.LOG_PATH,
        "outputs/%FF%FE",
        "outputs/ckpt/a",
        "outputs/file",
        "outputs/linked/d.txt",
        "outputs/new%0Aline%5C",
    ]
    assert cloud.stored["logs/_user/std_log.txt"] == b"the user's own"
    skipped = {entry["path"]: entry["reason"] for entry in cloud.seal["skipped"]}
    assert {
        "outputs/pipe": "a FIFO",
        "outputs/socket": "a socket",
        "outputs/broken": "a link that leads nowhere (nowhere)",
        "outputs/loop": "a link that leads nowhere (loop)",
        "outputs/stolen": f"a link that leads out of the working directory ({secret})",
        "outputs/latest": "a link to the folder outputs/ckpt",
        "outputs/up": "a link that leads out of the working directory (..)",
    } == skipped


def test_a_file_that_grows_is_saved_as_it_ended(cloud_pod: Pod, cloud: Cloud) -> None:
    run(
        cloud_pod, "for n in $(seq 1 60); do echo $n >> outputs/grows; sleep 0.01; done; mv outputs/grows outputs/grown"
    )

    assert paths(cloud) == [wire.LOG_PATH, "outputs/grown"]
    assert cloud.stored["outputs/grown"][-3:] == b"60\n"


def test_a_file_that_vanished_is_not_in_the_seal(cloud_pod: Pod, cloud: Cloud) -> None:
    run(cloud_pod, "echo x > outputs/gone; sleep 0.6; rm outputs/gone")

    assert paths(cloud) == [wire.LOG_PATH]
    assert cloud.stored["outputs/gone"] == b"x\n", "it was saved while it was there, and is not deleted"


def test_what_came_with_the_snapshot_unchanged_is_no_output(cloud_pod: Pod, cloud: Cloud) -> None:
    for name, text in {"same": "1", "edited": "2"}.items():
        (cloud_pod.work / "outputs" / name).write_text(text)
    sha = {
        name: __import__("hashlib").sha256(text.encode()).hexdigest() for name, text in (("same", "1"), ("edited", "2"))
    }
    carried = {f"outputs/{name}": {"size": 1, "sha256": digest} for name, digest in sha.items()}
    write_json(cloud_pod.scratch.carried, carried)

    run(cloud_pod, "printf 3 > outputs/edited")

    assert paths(cloud) == [wire.LOG_PATH, "outputs/edited"]


def test_many_files_at_once_are_all_there(cloud_pod: Pod, cloud: Cloud) -> None:
    run(cloud_pod, "python3 -c \"for n in range(1500): open('outputs/%d' % n, 'w').write('x' * n)\"")

    assert len(paths(cloud)) == 1501
    assert cloud.stored["outputs/1499"] == b"x" * 1499


def test_a_large_file_goes_up_in_parts(cloud_pod: Pod, cloud: Cloud) -> None:
    size = wire.SINGLE_PUT_BYTES + 12_345

    run(cloud_pod, f"head -c {size} /dev/urandom > outputs/large")

    assert (cloud_pod.work / "outputs/large").read_bytes() == cloud.stored["outputs/large"]
    assert cloud.uploads == {}


def test_a_large_file_goes_on_after_a_kill(cloud_pod: Pod, cloud: Cloud) -> None:
    size = wire.SINGLE_PUT_BYTES + 5
    cloud.fault = lambda method, path: (503, {}, b"") if path.endswith("/2") else None
    ship = cloud_pod.ship()
    cloud_pod.launch("sh", "-c", f"head -c {size} /dev/urandom > outputs/large")
    eventually(lambda: ("PUT", "/p/u0/2") in cloud.requests, 20)
    ship.kill()
    ship.wait()
    cloud.fault = lambda method, path: None
    cloud.requests.clear()

    cloud_pod.ship()

    assert cloud_pod.await_sealed()["complete"]
    assert ("PUT", "/p/u0/1") not in cloud.requests, "the first part was sent twice"
    assert size == len(cloud.stored["outputs/large"])


def test_a_large_file_that_was_rewritten_leaves_no_parts_behind(cloud_pod: Pod, cloud: Cloud) -> None:
    size = wire.SINGLE_PUT_BYTES + 5
    cloud.fault = lambda method, path: (503, {}, b"") if path.endswith("/2") else None
    cloud_pod.ship()
    process = cloud_pod.launch("sh", "-c", f"head -c {size} /dev/zero > outputs/large; sleep 30", wait=True)
    eventually(lambda: ("PUT", "/p/u0/2") in cloud.requests, 20)
    (cloud_pod.work / "outputs/large").write_text("small now")
    cloud.fault = lambda method, path: None

    process.send_signal(signal.SIGTERM)

    assert cloud_pod.await_sealed()["complete"]
    assert (b"small now", ["u0"], {}) == (cloud.stored["outputs/large"], cloud.aborted, cloud.uploads)


def test_a_log_that_was_swapped_for_a_link_is_named_and_not_followed(cloud_pod: Pod, cloud: Cloud) -> None:
    secret = cloud_pod.folder / "secret"
    secret.write_text("of the agent")
    log = cloud_pod.scratch.raw_log

    outcome = run(cloud_pod, f"echo x > outputs/x; rm {log}; ln -s {secret} {log}")

    assert not outcome["complete"]
    assert [wire.LOG_PATH] == [entry["path"] for entry in cloud.seal["missing"]]
    assert not any(b"of the agent" in body for body in cloud.stored.values())


def test_a_log_that_was_removed_is_named(cloud_pod: Pod, cloud: Cloud) -> None:
    outcome = run(
        cloud_pod, f"mkdir outputs/d; rm {cloud_pod.scratch.raw_log}; mkdir {cloud_pod.scratch.raw_log}; exit 4"
    )

    assert not outcome["complete"]
    assert (4, [wire.LOG_PATH]) == (cloud.seal["exit"]["code"], [entry["path"] for entry in cloud.seal["missing"]])


# A store and a server with faults


def test_faults_of_all_kinds_lose_nothing(cloud_pod: Pod, cloud: Cloud) -> None:
    chance = random.Random(7)

    def fault(method: str, path: str) -> tuple[int, dict[str, str], bytes] | None:
        roll = chance.random()
        if roll < 0.05:
            raise Hangup
        if roll < 0.3:
            return chance.choice(
                [
                    (500, {}, b""),
                    (503, {"Retry-After": "0"}, b"SlowDown"),
                    (429, {}, b""),
                    (408, {}, b""),
                    (400, {}, b"<Code>RequestTimeout</Code>"),
                ]
            )
        return None

    with failing(cloud, fault):
        outcome = run(
            cloud_pod, "for n in $(seq 1 30); do echo $n; head -c 20000 /dev/urandom > outputs/$n; sleep 0.02; done"
        )

    assert outcome["complete"]
    assert len(paths(cloud)) == 31
    assert cloud_pod.log == cloud.stored[wire.LOG_PATH]


def test_during_an_outage_the_command_goes_on_and_all_is_saved_afterwards(cloud_pod: Pod, cloud: Cloud) -> None:
    def down(method: str, path: str) -> None:
        raise Hangup

    with failing(cloud, down):
        cloud_pod.ship()
        process = cloud_pod.launch("sh", "-c", "echo lonely; echo x > outputs/x; exit 6", wait=True)
        eventually(lambda: os.path.exists(cloud_pod.scratch.exit))
        time.sleep(1)
        assert process.poll() is None

    assert process.wait(30) == 6
    assert paths(cloud) == [wire.LOG_PATH, "outputs/x"]


def test_a_refused_file_is_named_and_the_rest_is_saved(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud.fault = lambda method, path: (400, {}, b"InvalidArgument") if path.endswith("/outputs/bad") else None

    outcome = run(cloud_pod, "echo b > outputs/bad; echo g > outputs/good")

    assert (outcome["complete"], outcome["reason"]) == (False, "OutputsNotSaved")
    assert paths(cloud) == [wire.LOG_PATH, "outputs/good"]
    assert [entry["path"] for entry in cloud.seal["missing"]] == ["outputs/bad"]
    assert "400" in cloud.seal["missing"][0]["reason"]


def test_a_store_that_refuses_for_good_ends_with_an_incomplete_seal(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud.fault = lambda method, path: (403, {}, b"AccessDenied") if method == "PUT" else None
    ship = cloud_pod.ship(STOKER_REFUSED_SECONDS="1")

    process = cloud_pod.launch("sh", "-c", "echo l; echo x > outputs/x", wait=True)

    assert process.wait(30) == 125
    assert not cloud.seal["complete"]
    assert {wire.LOG_PATH, "outputs/x"} == {entry["path"] for entry in cloud.seal["missing"]}
    assert "outputs/x" in cloud_pod.termination.read_text()
    ship.send_signal(signal.SIGTERM)
    assert ship.wait(10) == 1


def test_a_store_that_takes_nothing_for_long_ends_the_saving(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud.fault = lambda method, path: (503, {}, b"") if method == "PUT" else None
    cloud_pod.ship(STOKER_SAVE_STALL_SECONDS="2")

    process = cloud_pod.launch("sh", "-c", "echo l; echo x > outputs/x", wait=True)

    assert process.wait(30) == 125
    assert {wire.LOG_PATH, "outputs/x"} == {entry["path"] for entry in cloud.seal["missing"]}
    assert "503" in cloud.seal["missing"][0]["reason"]


def test_what_kubernetes_keeps_of_ships_last_words_names_the_files_that_are_not_saved(
    cloud_pod: Pod, cloud: Cloud
) -> None:
    def down(method: str, path: str) -> None:
        raise Hangup

    cloud.fault = down
    last_words = cloud_pod.folder / "ship-termination-log"
    last_words.touch()
    ship = cloud_pod.ship(STOKER_SAVE_STALL_SECONDS="1", STOKER_TERMINATION_LOG=str(last_words))
    cloud_pod.launch("sh", "-c", "for n in $(seq 100 399); do echo x > outputs/file-$n; done", wait=True)
    outcome = cloud_pod.await_sealed(40)

    ship.send_signal(signal.SIGTERM)
    assert ship.wait(10) == 1
    said = last_words.read_text()
    assert f"OutputsNotSaved: {outcome['message']}" == said
    listed = re.findall(r"outputs/file-\d+", said)
    assert len(listed) > 150
    assert f"and {301 - len(listed)} more" in said


def test_with_the_server_away_for_good_the_list_is_in_the_outcome(cloud_pod: Pod, cloud: Cloud) -> None:
    def down(method: str, path: str) -> None:
        raise Hangup

    cloud.fault = down
    cloud_pod.ship(STOKER_SAVE_STALL_SECONDS="1")

    process = cloud_pod.launch("sh", "-c", "echo x > outputs/x", wait=True)

    assert process.wait(30) == 125
    outcome = json.loads(Path(cloud_pod.scratch.sealed).read_text())
    assert (outcome["complete"], outcome["reason"]) == (False, "OutputsNotSaved")
    assert "outputs/x" in outcome["message"]


def test_a_rank_that_was_sealed_by_another_takes_nothing_more(cloud_pod: Pod, cloud: Cloud) -> None:
    seal = wire.seal_document(JOB, 1, 0, None, [], reason="NodeLost", sealed_at="t", sealed_by="operator")
    cloud.objects[cloud.prefix + "seal.json"] = wire.json_bytes(seal)

    outcome = run(cloud_pod, "echo x > outputs/x")

    assert (outcome["complete"], outcome["reason"]) == (False, "NodeLost")
    assert "outputs/x" not in cloud.stored


def test_an_object_that_the_store_lost_is_sent_again(cloud_pod: Pod, cloud: Cloud) -> None:
    def lose(method: str, path: str) -> None:
        if path == "/v1/seal":
            cloud.objects.pop(cloud.prefix + "outputs/x", None)
            cloud.fault = lambda method, path: None

    cloud.fault = lose

    outcome = run(cloud_pod, "echo x > outputs/x")

    assert outcome["complete"]
    assert cloud.stored["outputs/x"] == b"x\n"


def test_a_grant_that_expired_is_renewed(cloud_pod: Pod, cloud: Cloud) -> None:
    seen = threading.Event()

    def expire(method: str, path: str) -> tuple[int, dict[str, str], bytes] | None:
        if path == "/v1/seal" and not seen.is_set():
            seen.set()
            return 401, {}, b'{"error": {"reason": "GrantExpired", "message": "ask again"}}'
        return None

    cloud.fault = expire

    assert run(cloud_pod, "true")["complete"]
    assert sum(path == "/v1/grant" for _, path in cloud.requests) == 2


def test_signatures_stay_out_of_our_log(cloud_pod: Pod, cloud: Cloud) -> None:
    signed = cloud._signed
    cloud._signed = lambda entry: {**signed(entry), "url": signed(entry)["url"] + "?X-Amz-Signature=SECRET"}  # type: ignore[method-assign]
    cloud.fault = lambda method, path: (403, {}, b"no") if method == "PUT" else None
    ship = cloud_pod.ship(STOKER_REFUSED_SECONDS="0.5")
    cloud_pod.launch("sh", "-c", "echo x")
    cloud_pod.await_sealed()

    ship.send_signal(signal.SIGTERM)
    _, errors = ship.communicate(timeout=10)

    assert b"403" in errors
    assert b"SECRET" not in errors


# The local run


def test_a_folder_is_a_store_with_the_same_seal(pod: Pod) -> None:
    ship = pod.ship(local=True)
    process = pod.launch("sh", "-c", "echo hello; echo x > outputs/x; exit 2", wait=True)

    assert (process.wait(20), ship.wait(20)) == (2, 0)
    rank = pod.store / "jobs" / JOB / "attempts/1/0"
    seal = json.loads((rank / "seal.json").read_text())
    assert (seal["complete"], seal["exit"]["code"]) == (True, 2)
    assert sorted(str(path.relative_to(rank)) for path in rank.rglob("*")) == [
        "logs",
        "logs/std_log.txt",
        "outputs",
        "outputs/x",
        "seal.json",
    ]
