"""What a store or the way to it can do to a rank that is being saved: nothing is lost, nothing is falsely complete."""

import os
from pathlib import Path

import pytest

from stoker.runtime import wire
from tests.component.runtime.pod import Cloud, Pod, eventually
from tests.support.faulty_store import Fault, FaultyStore, faulty

SCRIPT = (
    "for n in $(seq 1 20); do echo line $n; done; echo small > outputs/small;"
    "head -c 30000 /dev/urandom > outputs/middle; head -c 30000 /dev/urandom > logs/more"
)


def s3_error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()


def complete_of_parts(method: str, path: str, body: bytes) -> bool:
    return path == "/v1/multipart" and b'"complete"' in body


def anything(method: str, path: str, body: bytes) -> bool:
    return True


#: Every fault meets several requests: the log and the files, alone and together.
CASES = {
    "500": Fault(5, answer=500, body=s3_error("InternalError")),
    "503 in bursts": Fault(8, answer=503, body=s3_error("SlowDown"), headers={"Retry-After": "0"}),
    "403 expired": Fault(4, answer=403, body=s3_error("AccessDenied").replace(b"no", b"Request has expired")),
    "409": Fault(4, answer=409, body=s3_error("ConditionalRequestConflict")),
    "412 of its own write": Fault(4, passed_on=True),
    "502 after its own write": Fault(4, passed_on=True, answer=502),
    "400 RequestTimeout": Fault(4, answer=400, body=s3_error("RequestTimeout")),
    "half closed": Fault(4, half_close=True),
    "stall": Fault(3, stall=True),
    "answers that stall": Fault(2, stall=True, matches=lambda method, path, body: path in ("/v1/writes", "/v1/seal")),
    "1 KB/s": Fault(100, bytes_per_second=10_000),
}


def everything_is_stored(pod: Pod, cloud: Cloud) -> None:
    assert cloud.seal is not None
    expected = {str(file.relative_to(pod.work)): file.read_bytes() for file in _files(pod)}
    expected[wire.LOG_PATH] = pod.log
    assert expected == {file["path"]: cloud.stored[file["path"]] for file in cloud.seal["files"]}
    assert (True, []) == (cloud.seal["complete"], cloud.seal["missing"])
    assert {} == cloud.uploads, "parts were left behind"


def _files(pod: Pod) -> list[Path]:
    return [file for top in ("outputs", "logs") for file in (pod.work / top).rglob("*") if file.is_file()]


def through(cloud: Cloud, proxy: FaultyStore) -> None:
    """From now on everybody reaches the cloud through the proxy."""
    cloud.url = proxy.url


@pytest.mark.parametrize("name", CASES)
def test_a_fault_of_the_store_costs_time_and_nothing_else(cloud_pod: Pod, cloud: Cloud, name: str) -> None:
    fault = CASES[name]
    fault.met = 0
    with faulty(cloud.url, fault) as proxy:
        through(cloud, proxy)
        # Scaled: 60 s without a byte are one.
        cloud_pod.ship(STOKER_NETWORK_SECONDS="1")
        launch = cloud_pod.launch("sh", "-c", SCRIPT, wait=True)

        outcome = cloud_pod.await_sealed(30)

        assert launch.wait(10) == 0
    assert outcome["complete"], outcome
    assert fault.met >= min(fault.times, 4), "the fault was not met"
    everything_is_stored(cloud_pod, cloud)


def test_a_network_so_slow_that_one_file_takes_longer_than_a_stall_is_no_stall(cloud_pod: Pod, cloud: Cloud) -> None:
    slow = Fault(1, bytes_per_second=10_000, matches=lambda method, path, body: path.endswith("outputs/middle"))
    with faulty(cloud.url, slow) as proxy:
        through(cloud, proxy)
        cloud_pod.ship(STOKER_SAVE_STALL_SECONDS="1.5")
        cloud_pod.launch("sh", "-c", "head -c 50000 /dev/urandom > outputs/middle", wait=True)

        assert cloud_pod.await_sealed()["complete"]

    assert slow.met == 1
    everything_is_stored(cloud_pod, cloud)


def test_a_complete_that_says_200_and_means_no_is_not_believed(cloud_pod: Pod, cloud: Cloud) -> None:
    fault = Fault(2, answer=200, body=s3_error("InternalError"), matches=complete_of_parts)
    with faulty(cloud.url, fault) as proxy:
        through(cloud, proxy)
        cloud_pod.ship()
        cloud_pod.launch("sh", "-c", f"head -c {wire.SINGLE_PUT_BYTES + 5} /dev/zero > outputs/large", wait=True)

        assert cloud_pod.await_sealed(30)["complete"]

    assert fault.met == 2
    everything_is_stored(cloud_pod, cloud)


def test_faults_at_every_step_of_an_upload_in_parts_lose_nothing_and_leave_none_behind(
    cloud_pod: Pod, cloud: Cloud
) -> None:
    """All but the upload of a create whose answer was lost: the server drops that with the seal (test_real_store.py)."""

    def create_of_parts(method: str, path: str, body: bytes) -> bool:
        return path == "/v1/multipart" and b'"create"' in body

    def a_part(method: str, path: str, body: bytes) -> bool:
        return method == "PUT" and path.startswith("/p/")

    faults = [
        Fault(1, passed_on=True, matches=create_of_parts),
        Fault(1, answer=500, body=s3_error("InternalError"), matches=a_part),
        Fault(1, half_close=True, matches=a_part),
        Fault(1, passed_on=True, matches=a_part),
        Fault(1, answer=403, body=s3_error("AccessDenied"), matches=a_part),
        Fault(1, passed_on=True, matches=complete_of_parts),
    ]
    with faulty(cloud.url, *faults) as proxy:
        through(cloud, proxy)
        cloud_pod.ship(STOKER_NETWORK_SECONDS="5")
        cloud_pod.launch("sh", "-c", f"head -c {wire.SINGLE_PUT_BYTES + 5} /dev/urandom > outputs/large", wait=True)

        assert cloud_pod.await_sealed(120)["complete"]

    assert [1] * len(faults) == [fault.met for fault in faults]
    assert ["u0"] == list(cloud.uploads)
    cloud.uploads.clear()
    everything_is_stored(cloud_pod, cloud)


def test_an_outage_longer_than_the_run_loses_nothing(cloud_pod: Pod, cloud: Cloud) -> None:
    outage = Fault(10**9, matches=anything)  # every connection ends without an answer
    with faulty(cloud.url, outage) as proxy:
        through(cloud, proxy)
        # Scaled: 30 minutes of saveStallSeconds 3600 are half of these.
        cloud_pod.ship(STOKER_SAVE_STALL_SECONDS="12")
        launch = cloud_pod.launch("sh", "-c", SCRIPT, wait=True)
        eventually(lambda: os.path.exists(cloud_pod.scratch.exit))
        turned_away = outage.met
        eventually(lambda: outage.met >= turned_away + 8)
        assert (None, False, None) == (launch.poll(), os.path.exists(cloud_pod.scratch.sealed), cloud.seal)

        proxy.faults.clear()

        assert cloud_pod.await_sealed(20)["complete"]
        assert launch.wait(10) == 0
    everything_is_stored(cloud_pod, cloud)
