"""A run on a cluster as the command line sees it: an API server that the test plays, and Stoker's real server."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from stoker.storage import layout
from tests.support.apiserver import JOBS, POOL
from tests.support.cli import Cli
from tests.support.played_cluster import LOG, PlayedCluster, played_cluster
from tests.support.serving import job_record
from tests.support.signals import to_another_thread


@dataclass
class World(PlayedCluster):
    """The command line in front of a cluster that the test plays."""

    cli: Cli

    def submit(self, *more: str) -> tuple[Any, dict[str, Any]]:
        """Start `stoker run` and wait for the TrainingJob that it creates."""
        process = self.cli.start("run", "t.py", "--compute", "cpu", "--environment", "python:3.12", *more)
        try:
            return process, self.api.created.get(timeout=20)
        except Exception:
            process.kill()
            raise AssertionError(process.communicate()) from None

    def finished(self) -> dict[str, Any]:
        """A run that has ended."""
        process, job = self.submit("-q")
        self.start_pod(job, LOG)
        self.finish(job)
        process.communicate(timeout=30)
        return job


@pytest.fixture
def world(cli: Cli, tmp_path: Path) -> Iterator[World]:
    with played_cluster(tmp_path) as played:
        cli.env = played.environment
        cli.write(t__py="print(1)\n")
        yield World(played.api, played.served, played.kubeconfig, cli)


def test_submit_follow_and_the_record(world: World) -> None:
    process, job = world.submit("-o", "json")
    digest = job["spec"]["command"]["code"]["snapshot"]
    assert asyncio.run(world.served.store().head(layout.snapshot_manifest(digest)))

    world.start_pod(job, b"epoch 1\n")
    assert "epoch 1" in _until(process.stderr, "epoch 1")
    world.finish(job)
    out, err = process.communicate(timeout=30)

    record = json.loads(out)
    assert {"name", "phase", "exitCode", "reason", "message", "outputs", "logs", "storage", "timings"} == set(record)
    assert (0, "Completed", 0) == (process.returncode, record["phase"], record["exitCode"])
    assert ["model.bin"] == [one["path"] for one in record["outputs"]]
    assert f"s3://bucket/stoker/team/jobs/{world.key(job)}" == record["storage"]
    # The pod printed the first line and then broke off: the stored log has the rest, once.
    assert 1 == err.count("epoch 2")
    assert all(agent.startswith("stoker-cli/") for agent in world.api.agents)


def _until(stream: Any, words: str) -> str:
    for line in stream:
        if words in line:
            return str(line)
    raise AssertionError(f"the stream ended without {words!r}")


def test_a_run_is_repeated_exactly_from_its_record_when_its_object_is_gone(world: World) -> None:
    job = world.finished()
    name, key, digest = job["metadata"]["name"], world.key(job), "sha256:" + "d" * 64
    snapshot = job["spec"]["command"]["code"]["snapshot"]
    record = job_record(
        "team", name, job["metadata"]["uid"], snapshot=snapshot, spec=job["spec"],
        image={"reference": "python:3.12", "digest": digest},
    )  # fmt: skip
    asyncio.run(world.served.store().delete([layout.job_record(key)]))
    world.put(layout.job_record(key), json.dumps(record).encode())
    world.api.put(f"{JOBS}/{name}", world.api.objects[f"{JOBS}/{name}"], kind="DELETED")

    process = world.cli.start("rerun", name, "--exact", "--detach", "-o", "json")
    again = world.api.created.get(timeout=20)
    process.communicate(timeout=30)

    assert name != again["metadata"]["name"]
    assert {"snapshot": snapshot} == again["spec"]["command"]["code"]
    assert {"spec": {"image": f"python@{digest}"}} == again["spec"]["command"]["environment"]
    assert job["spec"]["command"]["command"] == again["spec"]["command"]["command"]


def test_two_runs_of_a_cluster_differ_by_the_files_of_their_code(world: World) -> None:
    names = []
    for text in ("print(1)\n", "print(2)\n"):
        world.cli.write(t__py=text)
        process, job = world.submit("-q")
        world.start_pod(job, LOG)
        key, snapshot = world.key(job), job["spec"]["command"]["code"]["snapshot"]
        record = job_record(
            "team", job["metadata"]["name"], job["metadata"]["uid"], snapshot=snapshot, spec=job["spec"]
        )
        asyncio.run(world.served.store().delete([layout.job_record(key)]))
        world.put(layout.job_record(key), json.dumps(record).encode())
        world.finish(job)
        process.communicate(timeout=30)
        names.append(job["metadata"]["name"])

    told = world.cli.json("diff", *names)

    assert [("code", "t.py")] == [(one["part"], one["name"]) for one in told["differences"]]
    world.cli("diff", *names, "--exit-code", code=1)


def test_an_unchanged_snapshot_is_not_sent_again(world: World) -> None:
    for expected in (True, False):
        assert expected is world.cli.json("snapshot", ".", "--push")["sent"]


def test_the_exit_code_is_the_jobs_own(world: World) -> None:
    process, job = world.submit()
    world.start_pod(job, LOG)
    world.finish(job, "Failed", 3, {})
    process.communicate(timeout=30)

    assert 3 == process.returncode


def test_ctrl_c_detaches_and_says_what_to_do(world: World) -> None:
    process, job = world.submit()
    world.start_pod(job, b"epoch 1\n")
    _until(process.stdout, "epoch 1")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert 0 == process.returncode
    for command in ("logs", "why", "cancel"):
        assert f"stoker {command} {job['metadata']['name']}" in err
    assert "cancel" not in world.api.objects[f"{JOBS}/{job['metadata']['name']}"]["spec"]


def test_ctrl_c_that_another_thread_takes_detaches_too(world: World) -> None:
    process, job = world.submit()
    world.start_pod(job, b"epoch 1\n")
    _until(process.stdout, "epoch 1")

    to_another_thread(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)

    assert (0, True) == (process.returncode, "stoker cancel" in err)


def test_a_run_deleted_under_its_follower_is_not_called_done(world: World) -> None:
    process, job = world.submit()
    name = job["metadata"]["name"]
    world.start_pod(job, b"epoch 1\n")
    _until(process.stdout, "epoch 1")

    world.api.logs.put(None)
    world.api.put(f"{JOBS}/{name}", world.api.objects[f"{JOBS}/{name}"], "DELETED")
    _, err = process.communicate(timeout=30)

    assert 125 == process.returncode
    assert f"TrainingJob/{name} was deleted before the run ended" in err
    assert "  done  " not in err


def test_cancel_asks_the_operator(world: World) -> None:
    name = world.cli.json("run", "t.py", "--compute", "cpu", "--environment", "a:1", "--detach")["name"]

    world.cli("cancel", "@last")

    assert world.api.objects[f"{JOBS}/{name}"]["spec"]["cancel"] is True


def test_suspend_and_resume_ask_the_operator(world: World) -> None:
    name = world.cli.json("run", "t.py", "--compute", "cpu", "--environment", "a:1", "--detach")["name"]

    said = world.cli("suspend", "@last")
    assert world.api.objects[f"{JOBS}/{name}"]["spec"]["suspend"] is True
    assert "is being suspended" in said.stderr

    world.cli("resume", name)
    assert world.api.objects[f"{JOBS}/{name}"]["spec"]["suspend"] is False


def test_a_run_that_has_ended_is_not_suspended(world: World) -> None:
    job = world.finished()

    said = world.cli("suspend", job["metadata"]["name"])

    assert "has ended already" in said.stderr
    assert "suspend" not in job["spec"]


def test_a_run_is_read_and_pulled_after_its_object_is_gone(world: World) -> None:
    job = world.finished()
    name = job["metadata"]["name"]
    world.api.put(f"{JOBS}/{name}", job, "DELETED")

    assert [name] == [one["name"] for one in world.cli.json("ls")]
    assert LOG.decode() == world.cli("logs", name).stdout
    assert "Completed" == world.cli.json("show", name[:-1])["phase"]
    world.cli("pull", name, "got")
    assert b"m" * 100 == (world.cli.folder / "got" / "model.bin").read_bytes()


def test_pull_goes_on_where_it_stopped_and_checks_what_came(world: World) -> None:
    job = world.finished()
    got = world.cli.folder / "got"
    got.mkdir()
    (got / "model.bin.stoker-part").write_bytes(b"m" * 60)
    world.cli("pull", job["metadata"]["name"], "got")
    assert 100 == (got / "model.bin").stat().st_size

    place = layout.rank_prefix(world.key(job), 1, 0) + "outputs/model.bin"
    world.put(place, b"x" * 100)
    refused = world.cli("pull", job["metadata"]["name"], "other", code=125)

    assert "sha256" in refused.stderr
    assert not (world.cli.folder / "other" / "model.bin").exists()


def test_why_tells_what_it_waits_for(world: World) -> None:
    name = world.cli.json("run", "t.py", "--compute", "cpu", "--environment", "a:1", "--detach")["name"]
    world.api.status(
        name, phase="Queued", waiting={"reason": "NodesBooting", "message": "1 of 2", "fix": "", "since": "x"}
    )

    assert ("Queued", "NodesBooting", "1 of 2") == tuple(
        world.cli.json("why", name)[k] for k in ("phase", "reason", "message")
    )
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    waiting = {"reason": "NodesBooting", "message": "1 of 2", "fix": "wait for them", "since": since}
    world.api.status(name, phase="Queued", waiting=waiting)
    printed = world.cli("why", name).stdout
    assert all(
        words in printed for words in ("Queued  NodesBooting", "fix: wait for them", f"waits for 1h, since {since}")
    )


def pools(world: World, **prices: str) -> None:
    """ComputeClusters at these prices, beside `gpu`, which is cheapest."""
    cpu, gpu = {"cpu": "4", "memory": "16Gi"}, {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    for name, price, resources in [*((name, price, cpu) for name, price in prices.items()), ("gpu", "0.01", gpu)]:
        kind = {"name": "std", "resources": resources, "pricePerHour": price}
        spec = {
            "provider": {"type": "Kwok", "kwok": {}},
            "maxInstances": 2,
            "allowedNamespaces": {},
            "instanceTypes": [kind],
        }
        world.api.put(f"{POOL.rpartition('/')[0]}/{name}", {"metadata": {"name": name}, "spec": spec})


def test_serverless_says_in_the_plan_what_it_comes_to_and_sends_the_word(world: World) -> None:
    pools(world, cpu="0.50", big="2.00")

    told = world.cli("run", "t.py", "--compute", "serverless", "--environment", "a:1", "--detach")

    assert "cpu with type std, 0.50 an hour: the cheapest of 2 of 3 pools that fit" in told.stderr
    (job,) = (body for path, body in world.api.objects.items() if path.startswith(f"{JOBS}/"))
    assert job["spec"]["compute"] == "serverless"
    name, message = job["metadata"]["name"], "cpu with type std, 0.50 an hour: the only pool there is"
    world.api.status(name, phase="Queued", compute="cpu", computeChoice={"instanceType": "std", "message": message})
    assert f"serverless: {message}" in world.cli("why", name).stdout


def test_serverless_is_refused_before_anything_is_sent_where_no_pool_fits(world: World) -> None:
    pools(world, cpu="0.50")
    (world.cli.folder / "job.yaml").write_text(
        "command: python t.py\ncode: .\nenvironment: {image: 'a:1'}\ncompute: azureml:serverless\nresources: {instance_count: 9}\n"
    )

    refused = world.cli("run", "job.yaml", "--detach", code=2)

    assert "cpu: it may have 2 nodes and the job needs 9; gpu: it may have 2 nodes" in refused.stderr
    assert not any(path.startswith(f"{JOBS}/") for path in world.api.objects)


def test_serverless_of_whoever_may_not_list_pools_is_left_to_the_cluster(world: World) -> None:
    world.api.forbidden.add(POOL.rpartition("/")[0])

    told = world.cli("run", "t.py", "--compute", "serverless", "--environment", "a:1", "--detach")

    assert "serverless, 1 node" in told.stderr


def test_a_dry_run_for_kubectl_says_how_its_code_gets_there(world: World) -> None:
    told = world.cli("run", "t.py", "--compute", "cpu", "--environment", "a:1", "--dry-run", "-o", "yaml")

    assert "sha256:" in told.stdout
    assert f"before kubectl apply, stoker snapshot {world.cli.folder} --push" in told.stderr


def test_why_of_a_job_that_no_operator_has_seen_says_so(world: World) -> None:
    """It once said `Pending` and nothing else, also for an hour."""
    process, job = world.submit("--detach")
    process.communicate(timeout=30)
    name = job["metadata"]["name"]
    world.api.status(
        name, phase="Pending", conditions=[{"type": "Ready", "status": "Unknown", "reason": "WaitingForController"}]
    )

    told = world.cli.json("why", name)

    assert ("Pending", "WaitingForController") == (told["phase"], told["reason"])
    assert "kubectl get pods -n stoker-system" in told["fix"]


def test_a_run_that_one_may_not_read_is_told_with_whom_to_ask_for_what(world: World) -> None:
    process, job = world.submit("--detach")
    process.communicate(timeout=30)
    name = job["metadata"]["name"]
    world.api.forbidden.add(f"{JOBS}/{name}")

    refused = world.cli("logs", name, code=125).stderr

    assert "you may not get TrainingJobs in namespace team" in refused
    assert "ask for a RoleBinding to ClusterRole stoker-viewer" in refused


def test_local_data_goes_as_a_snapshot(world: World) -> None:
    (world.cli.folder / "data").mkdir()
    (world.cli.folder / "data" / ".env").write_text("data, not code\n")
    world.cli.write(
        job__yaml="command: cat ${{inputs.d}}/.env\ninputs: {d: {type: uri_folder, path: data}}\nenvironment: a:1\ncompute: cpu\n"
    )

    world.cli("run", "--detach")
    job = world.api.created.get(timeout=5)

    path = job["spec"]["inputs"]["d"]["path"]
    assert path.startswith("snapshot:sha256:")
    assert asyncio.run(world.served.store().head(layout.snapshot_zip(path.removeprefix("snapshot:"))))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--compute", "gpu", "--environment", "a:1"), 2, 'no ComputeCluster named "gpu"; this cluster has: cpu'),
        (("--compute", "cpu", "--environment", "torch"), 2, 'no Environment named "torch"'),
        (("--compute", "cpu", "--context", "nope"), 125, "has: c"),
        (("--compute", "cpu",), 2, "a cluster needs an image"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_before_anything_is_sent(
    world: World, arguments: tuple[str, ...], code: int, words: str
) -> None:
    if "--context" in arguments:
        arguments += ("--environment", "a:1")

    refused = world.cli("run", "t.py", *arguments, code=code)

    assert words in refused.stderr
    assert not [line for line in world.api.requests if line.startswith("POST")]


def test_the_api_servers_own_words_are_shown(world: World) -> None:
    world.api.refuse = {
        "code": 422, "reason": "Invalid", "message": "TrainingJob is invalid",
        "details": {"causes": [{"field": "spec.command", "message": "Invalid value: no such thing"}]},
    }  # fmt: skip

    refused = world.cli("run", "t.py", "--compute", "cpu", "--environment", "a:1", code=2)

    assert "spec.command: Invalid value: no such thing" in refused.stderr


def test_without_a_kubeconfig_a_cluster_is_named_as_missing(world: World) -> None:
    world.cli.env = {}

    assert "no kubeconfig" in world.cli("run", "t.py", "--compute", "cpu", "--environment", "a:1", code=125).stderr


def test_why_plan_shows_what_the_operator_said(world: World) -> None:
    process, job = world.submit("--detach")
    process.communicate(timeout=30)
    name = job["metadata"]["name"]
    seen: list[str] = []
    with serving_plans(PLAN, seen) as url:
        world.cli.env["STOKER_SERVER"] = url
        printed = world.cli("why", name, "--plan").stdout
        told = world.cli.json("why", name, "--plan")

    assert PLAN == told
    assert {f"/v1/namespaces/team/trainingjobs/{name}/plan Bearer people"} == set(seen)
    for words in (
        "by stoker-operator-a", "Create Job/iris-1 on n0", "status Queued (WaitingForTurn)", "wake   2026-01-02T03:05:00Z",
        "pool cpu (Scale): 1 of 2 wanted nodes, at most 4, Resizing; jobs that wait: 3 WaitingForTurn",
        "wants 2 nodes for attempt 1", "the pool's plan: others are first", "fix: wait",
        "asked ImageDigest (reference python:3.12): unavailable, RegistryUnreachable: no answer; asked again at 2026-01-02T03:06:00Z",
        "Pod/iris-1-0: rank 0, Pending on n0; main: ImagePullBackOff slow", "Node/n0: ready True",
    ):  # fmt: skip
        assert words in printed


def test_why_plan_refused_is_told_in_the_operators_words(world: World) -> None:
    process, job = world.submit("--detach")
    process.communicate(timeout=30)
    refusal = {"error": {"reason": "Forbidden", "message": "mallory may not get TrainingJob iris"}}
    with serving_plans(refusal, [], 403) as url:
        world.cli.env["STOKER_SERVER"] = url
        refused = world.cli("why", job["metadata"]["name"], "--plan", code=125)

    assert ("", True) == (refused.stdout, "mallory may not get TrainingJob iris" in refused.stderr)
    with serving_plans({"error": {"reason": "NoSuchRoute", "message": "Not Found"}}, [], 404) as url:
        world.cli.env["STOKER_SERVER"] = url
        assert "upgrade Stoker" in world.cli("why", job["metadata"]["name"], "--plan", code=125).stderr


PLAN: dict[str, Any] = {
    "name": "iris", "namespace": "team", "uid": "u", "madeAt": "2026-01-02T03:04:05Z", "leader": "stoker-operator-a",
    "plan": {
        "actions": [{"action": "Create", "kind": "Job", "name": "iris-1", "images": {"main": "i"}, "nodes": ["n0"]}],
        "status": {"phase": "Queued", "waiting": {"reason": "WaitingForTurn"}}, "wakeAt": "2026-01-02T03:05:00Z",
    },
    "waiting": {"reason": "WaitingForTurn", "message": "others are first", "fix": "wait", "since": "2026-01-02T03:04:00Z"},
    "facts": {
        "phase": "Queued", "attempts": 0, "storage": "s3://b/team", "workspaceProblem": None,
        "pool": {
            "name": "cpu", "exists": True, "provider": "Scale", "minInstances": 0, "maxInstances": 4,
            "allocationState": "Resizing", "currentNodes": 1, "targetNodes": 2, "nodes": {},
            "waitingJobs": {"WaitingForTurn": 3}, "problems": [],
        },
        "wants": {"attempt": 1, "nodes": 2, "instanceType": None},
        "placement": {"granted": False, "nodes": [], "reason": "WaitingForTurn", "message": "others are first", "fix": "wait"},
        "children": [{"name": "iris-1", "attempt": 1, "createdAt": "", "ended": None, "deleting": False}],
        "pods": [{
            "name": "iris-1-0", "attempt": 1, "rank": 0, "phase": "Pending", "node": "n0", "reason": "", "deleting": False,
            "waiting": [{"container": "main", "reason": "ImagePullBackOff", "message": "slow"}],
        }],
        "nodes": [{"name": "n0", "ready": "True", "since": None, "cordoned": False, "taints": []}], "events": [],
        "answers": [{
            "question": "ImageDigest", "about": {"reference": "python:3.12"}, "answer": "Unavailable",
            "reason": "RegistryUnreachable", "message": "no answer", "fix": "", "askAgainAt": "2026-01-02T03:06:00Z",
        }],
    },
}  # fmt: skip


@contextmanager
def serving_plans(body: Any, seen: list[str], status: int = 200) -> Iterator[str]:
    """Stoker's server as far as plans go."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.path} {self.headers['Authorization']}")
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing: the test's output is the test's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
