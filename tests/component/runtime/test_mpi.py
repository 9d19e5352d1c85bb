"""mpirun and ray over launch's own remote shell: two pods of one attempt, played by two addresses of this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime.configure import LaunchConfig, write_config
from stoker.runtime.distribution import Distribution, Ray
from stoker.runtime.layout import write_atomic
from stoker.runtime.signed import Channel, NotTrusted
from tests.component.runtime.pod import Pod, eventually

HOSTS = ("127.0.0.2", "127.0.0.3")
#: What mpirun does with its remote shell, in small: one shell on each host, here or by the agent, and the worst code of all.
STAND_IN = r"""#!/bin/sh
while [ "$1" != sh ]; do case $1 in --hostfile) hosts=$2 ;; esac; shift; done
shift 2
rank=0 pids=
while read -r host slots; do
	if [ $rank = 0 ]; then
		MPI_RANK=0 sh -c "$1" &
	else
		$OMPI_MCA_plm_rsh_agent "$host" "MPI_RANK=$rank; export MPI_RANK; $1" &
	fi
	pids="$pids $!" rank=$((rank + 1))
done <"$hosts"
trap 'kill $pids' TERM
code=0
for pid in $pids; do wait $pid || code=$?; done
exit $code
"""


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[list[Pod]]:
    found = [Pod(tmp_path / f"pod-{rank}").prepare() for rank in range(len(HOSTS))]
    yield found
    for one in found:
        one.close()


def free_port() -> int:
    """A port that both addresses have free, and the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.2", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.3", port + 1))
            except OSError:
                continue
            return port


def start(pods: list[Pod], script: str, *, path: str, keys: tuple[str, str] = ("k" * 64, "k" * 64), slots: int = 1, kind: str = "mpi") -> list[subprocess.Popen[bytes]]:  # fmt: skip
    port, started = str(free_port()), []
    for rank, pod in enumerate(pods):
        spread = Distribution(kind, per_node=slots, ray=Ray(port=int(port) + 2))
        config = LaunchConfig(grace_seconds=20, distribution=spread)
        write_config(pod.scratch, config)
        write_atomic(pod.scratch.gang_key, keys[rank].encode(), 0o600)
        told = {
            "STOKER_RANK": str(rank), "STOKER_NODE_COUNT": "2", "STOKER_HOSTS": ",".join(HOSTS), "MASTER_ADDR": HOSTS[0],
            "MASTER_PORT": port, "PATH": path,
            # Two nodes that are one machine must not find each other's memory.
            "OMPI_MCA_btl": "self,tcp",
        }  # fmt: skip
        started.append(pod.launch("sh", "-c", script, **told))
    return started


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    """A PATH with our own mpirun in front."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mpirun").write_text(STAND_IN)
    (folder / "mpirun").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_the_command_runs_on_every_node_and_both_ranks_end_well(pods: list[Pod], stand_in: str) -> None:
    first, second = start(pods, 'echo "mpi $MPI_RANK on node $STOKER_RANK"', path=stand_in)

    assert (first.wait(30), second.wait(30)) == (0, 0)
    assert b"mpi 0 on node 0" in pods[0].log
    assert b"mpi 1 on node 1" in pods[1].log


def test_what_fails_on_another_node_is_the_exit_code_of_rank_0(pods: list[Pod], stand_in: str) -> None:
    first, second = start(pods, 'if [ "$MPI_RANK" = 1 ]; then exit 7; fi', path=stand_in)

    assert (first.wait(30), second.wait(30)) == (7, 0)


def test_a_node_that_is_killed_ends_mpirun(pods: list[Pod], stand_in: str) -> None:
    first, second = start(pods, 'echo "up $MPI_RANK"; sleep 300', path=stand_in)
    eventually(lambda: os.path.exists(pods[1].scratch.raw_log) and b"up 1" in pods[1].log)

    os.killpg(second.pid, signal.SIGKILL)
    os.killpg(_group_of(pods[1]), signal.SIGKILL)

    assert first.wait(30) != 0
    assert b"127.0.0.3 is gone; mpirun was ended" in pods[0].log


def _group_of(pod: Pod) -> int:
    """The group of what serves in a pod, and of all that it started."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or b"serve" not in (entry / "cmdline").read_bytes():
            continue
        if f"STOKER_DIR={pod.scratch.root}\0".encode() in (entry / "environ").read_bytes():
            return os.getpgid(int(entry.name))
    raise AssertionError("nothing serves")


def test_a_stop_of_rank_0_reaches_the_other_node(pods: list[Pod], stand_in: str) -> None:
    script = 'trap "echo saving $MPI_RANK; exit 0" TERM; echo "up $MPI_RANK"; while :; do sleep 0.05; done'
    first, second = start(pods, script, path=stand_in)
    eventually(lambda: os.path.exists(pods[1].scratch.raw_log) and b"up 1" in pods[1].log)
    eventually(lambda: b"up 0" in pods[0].log)

    first.send_signal(signal.SIGTERM)

    first.wait(30)
    assert second.wait(30) == 0
    assert pods[0].exit["reason"] == "Stopped"
    assert b"saving 1" in pods[1].log


def test_a_pod_of_another_attempt_is_refused(pods: list[Pod], stand_in: str) -> None:
    first, second = start(pods, "echo ran", path=stand_in, keys=("a" * 64, "b" * 64))

    assert first.wait(30) == 1
    assert b"127.0.0.3: " in pods[0].log
    assert b"ran" not in pods[1].log
    eventually(lambda: b"a connection was refused" in pods[1].log)
    second.send_signal(signal.SIGTERM)
    second.wait(30)


def test_an_image_without_mpirun_says_so(pods: list[Pod], tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "env"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    (tools / "python3").symlink_to(Path(sys.base_prefix, "bin", "python3"))

    first, second = start(pods, "true", path=str(tools))

    assert first.wait(30) == 127
    assert b"there is no mpirun on PATH" in pods[0].log
    second.send_signal(signal.SIGTERM)
    second.wait(30)


def test_a_frame_that_was_changed_on_its_way_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    answered: list[Channel] = []
    answering = threading.Thread(target=lambda: answered.append(Channel(theirs, b"k", calls=False)))
    answering.start()
    channel = Channel(ours, b"k", calls=True)
    answering.join()
    ours.sendall(b"\0\0\0\2{}" + bytes(32))

    with pytest.raises(NotTrusted, match="not signed by a pod of this attempt"):
        answered[0].take()
    channel.close()
    answered[0].close()


HELLO = """
import ctypes, os
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
world = ctypes.c_void_p(ctypes.addressof(ctypes.c_byte.in_dll(mpi, "ompi_mpi_comm_world")))
integers = ctypes.c_void_p(ctypes.addressof(ctypes.c_byte.in_dll(mpi, "ompi_mpi_int")))
add = ctypes.c_void_p(ctypes.addressof(ctypes.c_byte.in_dll(mpi, "ompi_mpi_op_sum")))
mpi.MPI_Init(None, None)
rank, total = ctypes.c_int(), ctypes.c_int()
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Allreduce(ctypes.byref(rank), ctypes.byref(total), 1, integers, add, world)
print("rank", rank.value, "on node", os.environ["STOKER_RANK"], "has", total.value, flush=True)
mpi.MPI_Finalize()
"""


@pytest.mark.skipif(
    shutil.which("mpirun") is None, reason="no Open MPI on this machine; the e2e tests have one in their image"
)
def test_open_mpi_itself_adds_up_the_ranks(pods: list[Pod]) -> None:
    for pod in pods:
        (pod.work / "hello.py").write_text(HELLO)

    first, second = start(pods, "python3 hello.py", path=os.environ["PATH"], slots=2)
    codes = (first.wait(60), second.wait(60))

    assert codes == (0, 0), pods[0].log + pods[1].log
    said = sorted(line for line in pods[0].log.decode().splitlines() if line.startswith("rank"))
    assert said == [f"rank {rank} on node {rank // 2} has 6" for rank in range(4)]


#: ray's command line in small: the head takes connections, a worker stays until it is ended.
RAY = r"""#!/bin/sh
echo "ray $*"
for word; do case $word in --port=*) port=${word#--port=} ;; esac; done
case "$1 $2" in
"start --head")
	exec python3 -c "import signal, socket, sys; signal.signal(15, lambda *_: sys.exit('head ended'))
with socket.create_server(('127.0.0.2', $port)):
    signal.pause()"
	;;
esac
exec sleep 300
"""


@pytest.fixture
def ray(tmp_path: Path) -> str:
    """A PATH with a program `ray` of our own in front."""
    folder = tmp_path / "ray-bin"
    folder.mkdir()
    (folder / "ray").write_text(RAY)
    (folder / "ray").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_rank_0_has_the_head_and_the_command_and_the_others_join(pods: list[Pod], ray: str, tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    script = f'until [ -e {joined} ]; do sleep 0.05; done; echo "at $RAY_ADDRESS"'
    first, second = start(pods, script, path=ray, kind="ray")
    eventually(lambda: os.path.exists(pods[1].scratch.raw_log) and b"ray start" in pods[1].log)

    joined.touch()

    assert (first.wait(30), second.wait(30)) == (0, 0)
    started, at, ended = pods[0].log.decode().splitlines()
    address = at.removeprefix("at ")
    port = address.removeprefix("127.0.0.2:")
    assert ended == "head ended", "SIGTERM reaches it"
    assert started == f"ray start --head --block --port={port} --include-dashboard=false"
    assert pods[1].log.decode() == f"ray start --address={address} --block\n"


def test_a_worker_of_ray_that_ends_early_ends_the_command(pods: list[Pod], ray: str) -> None:
    first, second = start(pods, "sleep 300", path=ray, kind="ray")
    eventually(lambda: os.path.exists(pods[1].scratch.raw_log) and b"ray start" in pods[1].log)

    os.kill(_child_of(pods[1]), signal.SIGKILL)

    assert first.wait(30) != 0
    assert b"127.0.0.3 ended with exit code 137; the command was ended" in pods[0].log
    assert second.wait(30) == 0


def _child_of(pod: Pod) -> int:
    """The process that a serving pod runs for rank 0: the group of it has the server and that one."""
    group = _group_of(pod)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != group and os.getpgid(int(entry.name)) == group:
            return int(entry.name)
    raise AssertionError("it runs nothing")
