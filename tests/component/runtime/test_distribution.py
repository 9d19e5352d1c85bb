"""The processes of a distributed command, started by launch as a real process."""

import json
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from stoker.runtime.configure import LaunchConfig, write_config
from stoker.runtime.distribution import Distribution
from tests.component.runtime.pod import Pod, eventually

TOLD = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"]
NODES = {"STOKER_NODE_COUNT": "2", "STOKER_HOSTS": "a.j,b.j", "MASTER_ADDR": "a.j", "MASTER_PORT": "29500"}

#: An all-reduce as torch's first steps do it: everyone meets at MASTER_ADDR:MASTER_PORT by rank.
ALL_REDUCE = """
import os, socket, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
where = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(where) as server:
        peers = [server.accept()[0].makefile("rw") for _ in range(world - 1)]
    total = rank + sum(int(peer.readline()) for peer in peers)
    for peer in peers:
        print(total, file=peer, flush=True)
else:
    deadline = time.monotonic() + 20
    while True:
        try:
            stream = socket.create_connection(where).makefile("rw")
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    print(rank, file=stream, flush=True)
    total = int(stream.readline())
print("rank", rank, "has", total, flush=True)
"""


def distribute(pod: Pod, kind: str, grace_seconds: float = 10, **counts: int) -> None:
    write_config(pod.scratch, LaunchConfig(grace_seconds=grace_seconds, distribution=Distribution(kind, **counts)))


def log_of(pod: Pod, number: int) -> str:
    return (pod.work / "logs" / "user_logs" / f"std_log_process_{number}.txt").read_text()


def test_each_process_of_pytorch_is_told_its_place(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)

    code, record, _ = pod.run("echo " + " ".join(f"${name}" for name in TOLD), STOKER_RANK="1", **NODES)

    assert (code, record["reason"]) == (0, None)
    assert log_of(pod, 2) == "2 0 4 2 1 a.j 29500\n"
    assert log_of(pod, 3) == "3 1 4 2 1 a.j 29500\n"


def test_processes_meet_at_the_master_and_add_up_their_ranks(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=3)
    (pod.work / "train.py").write_text(ALL_REDUCE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    code, _, output = pod.run("python3 train.py", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)

    assert code == 0, output
    assert sorted(output.splitlines()) == [f"[p{rank}] rank {rank} has 3" for rank in range(3)]


def test_one_process_is_the_log_itself(pod: Pod) -> None:
    distribute(pod, "pytorch")

    _, _, output = pod.run('echo "$RANK/$WORLD_SIZE $PET_NNODES $PET_NODE_RANK"', STOKER_RANK="1", **NODES)

    assert output == "1/2 2 1\n"
    assert not (pod.work / "logs" / "user_logs").exists()


def test_lines_of_processes_come_whole(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)
    script = 'for n in 1 2 3; do printf "a$n"; sleep 0.1; printf "b$n\\n"; done; printf end'

    _, record, output = pod.run(script)

    expected = Counter(f"[p{p}] {line}" for p in (0, 1) for line in ("a1b1", "a2b2", "a3b3", "end"))
    assert expected == Counter(output.splitlines())
    assert record["logBytes"] == len(pod.log) == len(output)


def test_the_first_that_fails_ends_the_others_and_is_told(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=3)
    script = 'trap "echo stopped; exit 9" TERM; echo up; if [ $RANK = 1 ]; then echo bad news; exit 3; fi; while :; do sleep 0.05; done'

    code, record, _ = pod.run(script)

    assert (code, record["code"], record["reason"]) == (3, 3, None)
    assert record["message"] == "process 1 ended with exit code 3"
    assert record["logTail"] == "up\nbad news\n"


def test_a_process_that_was_killed_is_told_with_its_log(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)

    code, record, _ = pod.run('echo "I am $RANK"; if [ $RANK = 1 ]; then kill -KILL $$; fi; sleep 60')

    assert (code, record["signal"]) == (137, 9)
    assert (record["message"], record["logTail"]) == ("process 1 was ended by SIGKILL", "I am 1\n")


def test_one_that_does_not_stop_is_killed_after_its_share_of_the_grace(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)
    deaf = "trap '' TERM; touch deaf; while :; do echo alive; sleep 0.05; done"
    begun = time.monotonic()

    code, record, _ = pod.run(f"if [ $RANK = 1 ]; then {deaf}; fi; until [ -e deaf ]; do sleep 0.05; done; exit 4")

    assert (code, record["message"]) == (4, "process 0 ended with exit code 4")
    assert time.monotonic() - begun > 1.5, "a fifth of the grace period"


def test_a_stop_reaches_every_process(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)
    process = pod.launch("sh", "-c", "trap 'echo saving; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    eventually(lambda: os.path.exists(pod.scratch.raw_log) and pod.log.count(b"ready") == 2)

    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0
    assert (pod.exit["reason"], pod.log.count(b"saving")) == ("Stopped", 2)


def test_processes_are_waited_for_by_the_first_process_of_a_container(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)
    script = "(sleep 0.2; exit 5) & if [ $RANK = 1 ]; then sleep 0.5; exit 6; fi; exit 0"

    parent, _ = pod.launch_as_first_process("sh", "-c", script)

    assert parent.wait(20) == 6
    assert pod.exit["message"] == "process 1 ended with exit code 6"


@pytest.mark.parametrize("rank", [0, 1])
def test_tensorflow_has_its_cluster_and_task(pod: Pod, rank: int) -> None:
    distribute(pod, "tensorflow", workers=4)

    code, _, _ = pod.run('printf "%s" "$TF_CONFIG"', STOKER_RANK=str(rank), **NODES)

    cluster = {"worker": ["a.j:29500", "b.j:29501", "a.j:29502", "b.j:29503"]}
    assert code == 0
    for index in (rank, rank + 2):
        assert json.loads(log_of(pod, index)) == {"cluster": cluster, "task": {"type": "worker", "index": index}}


def test_a_parameter_server_is_ended_once_the_workers_have_ended(pod: Pod) -> None:
    distribute(pod, "tensorflow", workers=1, parameter_servers=1)
    script = 'echo "$TF_CONFIG"; case $TF_CONFIG in *\'"type": "ps"\'*) while :; do sleep 0.05; done ;; esac; sleep 0.3'

    code, record, _ = pod.run(script)

    assert (code, record["code"], record["message"]) == (0, 0, "")
    assert json.loads(log_of(pod, 1))["task"] == {"type": "ps", "index": 0}


def test_jax_has_its_coordinator(pod: Pod) -> None:
    distribute(pod, "jax")

    told = 'echo "$JAX_COORDINATOR_ADDRESS $JAX_NUM_PROCESSES $JAX_PROCESS_ID"'

    assert pod.run(told, STOKER_RANK="1", **NODES)[2] == "a.j:29500 2 1\n"


def test_tensorflow_without_the_list_of_nodes_is_refused(pod: Pod) -> None:
    distribute(pod, "tensorflow")

    code, record, _ = pod.run("true", STOKER_NODE_COUNT="2000")

    assert (code, record["reason"]) == (125, "BadDistribution")
    assert "2000 nodes has no list of them" in record["message"]


def test_sh_alone_says_what_it_lacks(pod: Pod) -> None:
    distribute(pod, "pytorch")

    code, record, _ = pod.run("echo ran", STOKER_LAUNCH_WITH="sh")

    assert (code, record["reason"]) == (125, "BadDistribution")
    assert record["message"] == "distribution: pytorch needs Python 3.8 or later in the image, which has none"
    assert b"ran\n" not in pod.log


def test_a_program_that_is_not_there_is_told_once(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)
    process = pod.launch("no-such-program")

    assert process.wait(20) == 127
    assert pod.exit["reason"] == "CommandNotFound"


def test_scripts_find_the_logs_where_azure_ml_has_them(pod: Pod) -> None:
    distribute(pod, "pytorch", per_node=2)

    pod.run("echo hello")

    assert Path(pod.work, "user_logs", "std_log_process_1.txt").read_text() == "hello\n"
