"""Callers that ask for too much, too slowly or too long: each is held to its share, and the others are served."""

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from stoker.sdk.wayin import Server
from stoker.server.limits import BURST_SECONDS, STRANGERS_PER_SECOND
from stoker.storage import layout, records
from tests.component.runtime.pod import Pod
from tests.component.server.conftest import keep
from tests.component.server.test_ranks import KEY, write
from tests.support.serving import Answer, Served, job_record, listed, serving

JOBS = "/v1/namespaces/team/jobs"
BURST = int(BURST_SECONDS)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Served]:
    """A server where a pod and a person may ask once a second."""
    served = Served(tmp_path, pod_rate=1, person_rate=1)
    served.kube.run(ranks=2)
    served.kube.run(ranks=2, rank=1, token="other-pod")
    for token in ("one", "two", "three", "four", "five"):
        served.kube.account(token, "team", "stoker-editor")
    served.kube.account("elsewhere", "far", "stoker-editor")
    with serving(served):
        keep(served, job_record(instanceCount=2))
        yield served


def until_refused(call: Any) -> tuple[int, Answer]:
    """How often it went well, and the refusal."""
    for number in range(200):
        if (answer := call()).status != 200:
            return number, answer
    raise AssertionError("it was never refused")


def test_a_pod_that_asks_too_much_is_told_to_wait_and_the_others_are_served(slow: Served) -> None:
    grant, other = slow.granted(), slow.granted("other-pod")

    number, answer = until_refused(lambda: write(slow, grant, listed("outputs/x", b"x")))

    assert BURST - 1 <= number <= BURST + 1
    assert (429, "TooManyRequests", "1") == (answer.status, answer.reason, answer.headers["retry-after"])
    assert 429 == slow.grant().status, "another grant is the same pod's"
    assert 200 == write(slow, other, listed("outputs/x", b"x")).status


def test_signing_for_many_objects_counts_for_more(slow: Served) -> None:
    grant = slow.granted()
    many = [listed(f"outputs/{n}", b"") for n in range(1000)]

    assert 429 == write(slow, grant, *many).status
    assert 200 == write(slow, grant, *many[:10]).status


def test_a_person_and_then_a_namespace_is_told_to_wait(slow: Served) -> None:
    _, answer = until_refused(lambda: slow.call("GET", JOBS, token="one"))
    assert (429, "1") == (answer.status, answer.headers["retry-after"])
    assert 200 == slow.call("GET", JOBS, token="two").status

    answers = [
        until_refused(lambda token=token: slow.call("GET", JOBS, token=token))[1]  # type: ignore[misc]
        for token in ("two", "three", "four", "five")
    ]

    assert "namespace's people" in answers[-1].json["error"]["message"], "new tokens make no new room"
    assert 200 == slow.call("GET", "/v1/namespaces/far/jobs", token="elsewhere").status


def test_tokens_that_are_guessed_do_not_become_the_api_servers_load(served: Served) -> None:
    served.granted()
    before = served.kube.reviews

    answers = [served.grant(f"guess {n}").status for n in range(300)]

    most = STRANGERS_PER_SECOND * BURST_SECONDS
    assert {401, 429} == set(answers)
    assert served.kube.reviews - before < most + 100
    assert 200 == served.grant().status, "who is known is served, from this address too"


def test_a_body_of_which_nothing_comes_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.server.requests.SILENCE_SECONDS", 0.2)
    grant = served.granted()
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.putrequest("POST", f"{parts.path}/v1/writes")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(json.dumps({"grant": grant})[:20].encode())

    answer = connection.getresponse()

    assert (408, "TooSlow") == (answer.status, json.loads(answer.read())["error"]["reason"])
    connection.close()


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("route", ["grant", "reads", "writes", "multipart"])
def test_a_body_that_is_too_long_is_refused(served: Served, route: str, declared: bool) -> None:
    body = b" " * ((4 << 20) + 1)
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(
            "POST", f"{parts.path}/v1/{route}", body if declared else iter([body]), encode_chunked=not declared,
            headers={} if declared else {"Transfer-Encoding": "chunked"},
        )  # fmt: skip
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        status = connection.getresponse().status
    finally:
        connection.close()

    assert 413 == status


def test_people_who_send_slowly_do_not_keep_the_pods_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests than fit are told to come back; the other side has room of its own."""
    monkeypatch.setattr("stoker.server.app.MOST_REQUESTS", 3)
    served = Served(tmp_path)
    served.kube.run()
    served.kube.account("editor", "team", "stoker-editor")
    digest = "a" * 64
    with serving(served):
        keep(served, job_record())
        parts = urlsplit(served.url)
        open_ones = []
        for _ in range(3):
            connection = http.client.HTTPConnection(parts.netloc, timeout=10)
            connection.putrequest("PUT", f"{parts.path}/v1/namespaces/team/snapshots/{digest}/manifest")
            connection.putheader("Authorization", "Bearer editor")
            connection.putheader("Content-Length", "1000")
            connection.endheaders(b"{")
            open_ones.append(connection)

        _, answer = until_refused(lambda: served.call("GET", JOBS, token="editor"))
        pods = served.grant()
        for connection in open_ones:
            connection.close()

        assert (503, "ServerBusy", "2") == (answer.status, answer.reason, answer.headers["retry-after"])
        assert 200 == pods.status
        freed = threading.Event()
        while served.call("GET", JOBS, token="editor").status != 200:
            assert not freed.wait(0.05)


async def test_a_run_whose_ship_is_told_to_wait_is_saved_whole(slow: Served, tmp_path: Path) -> None:
    """The runtime keeps to Retry-After: nothing is lost, nothing is given up."""
    pod = Pod(tmp_path / "pod").prepare()
    pod.token.write_text("pod-token")
    where = {"STOKER_SERVER": slow.url, "STOKER_ATTEMPT": "1", "STOKER_RANK": "0"}
    try:
        ship = pod.ship(**where)
        script = "for n in 1 2 3 4 5 6; do echo line $n; echo $n > outputs/$n; sleep 0.4; done"
        main = pod.launch("sh", "-c", script, wait=True, **where)
        main.communicate(timeout=90)
        ship.terminate()
        _, errors = ship.communicate(timeout=30)
    finally:
        pod.close()

    seal = await records.read_seal(slow.store(), KEY, 1, 0)

    assert b"429" in errors, "else this showed nothing"
    assert 0 == main.returncode
    assert seal is not None
    assert seal["complete"]
    assert {"logs/std_log.txt", *(f"outputs/{n}" for n in range(1, 7))} == {file["path"] for file in seal["files"]}
    log = slow.store().path(layout.std_log(KEY, 1, 0)).read_bytes()
    assert b"".join(b"line %d\n" % n for n in range(1, 7)) == log


def test_the_command_line_waits_as_it_is_told(slow: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_SERVER", slow.url)
    file = slow.store().path(layout.rank_prefix(KEY, 1, 0) + "outputs/x")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    waits: list[float] = []
    monkeypatch.setattr("stoker.sdk.wayin.time.sleep", lambda seconds: waits.append(seconds) or _pass(seconds))
    kube = SimpleNamespace(create=lambda path, body: {"status": {"token": "one"}})
    server = Server(cast(Any, kube), "team")

    for _ in range(BURST + 1):
        assert "iris" == server.job(KEY)["job"]["name"]
    with server.open_file(KEY, 1, 0, "outputs/x") as answer:
        assert b"12345" == answer.read()

    assert len(waits) >= 2
    assert {1.0} == set(waits)


def _pass(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_many_at_once_are_all_served_in_the_end(served: Served) -> None:
    grant = served.granted()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda n: served.send(grant, f"outputs/{n}", b"x").status, range(100)))

    assert [200] * 100 == answers
