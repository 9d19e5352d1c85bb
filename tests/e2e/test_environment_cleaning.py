"""`stoker env gc` on the real registry: what nothing needs goes, what is needed stays and runs, what went can be had again."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

NAMESPACE = "cleans"
#: The operator notes a use as it sees a job start.
NOTED_SECONDS = 30.0


@pytest.fixture(scope="module", autouse=True)
def ground(stoker: Stoker) -> None:
    stoker.lab.packages(lambda line: None)
    stoker.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})


def environment(stoker: Stoker, name: str, version: str) -> dict[str, Any]:
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"image": stoker.lab.images["base"], "pip": [f"stoker-tiny=={version}"], "cacheEpoch": 17},
    }


def image_of(stoker: Stoker, name: str) -> dict[str, Any]:
    """The environment's image, once it has one."""
    seen = stoker.until("environment", name, _has_image, namespace=NAMESPACE)
    found: dict[str, Any] = seen["status"]["images"][0]
    return found


def _has_image(seen: dict[str, Any]) -> bool:
    return any(one.get("digest") for one in (seen.get("status") or {}).get("images", ()))


def ran(stoker: Stoker, cpu: str, name: str) -> dict[str, Any]:
    code = {"main.py": "import stoker_tiny; print('tiny', stoker_tiny.VERSION)\n"}
    made = training_job(name, "python main.py", image="x", compute=cpu, namespace=NAMESPACE, files=code)
    made["spec"]["command"]["environment"] = {"name": "used"}
    stoker.apply(made)
    return stoker.finished(name, NAMESPACE)


def gc(stoker: Stoker, *more: str) -> dict[str, Any]:
    s3 = stoker.lab.s3
    done = stoker.cli(
        "env", "gc", "-n", NAMESPACE, "--unused-days", "0", "-o", "json", *more,
        AWS_ENDPOINT_URL=s3.endpoint, AWS_ACCESS_KEY_ID=s3.access_key, AWS_SECRET_ACCESS_KEY=s3.secret_key,
    )  # fmt: skip
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def removed(value: dict[str, Any]) -> set[str]:
    return {digest for one in value["manifests"] if one["remove"] for digest in one["digests"]}


def in_registry(image: str) -> bool:
    place, _, digest = image.partition("@")
    host, _, repository = place.partition("/")
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{digest}", method="HEAD")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    try:
        with urllib.request.urlopen(request, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False


def test_an_unused_image_goes_and_a_used_one_stays_and_its_job_still_starts(stoker: Stoker, cpu: str) -> None:
    stoker.apply(environment(stoker, "used", "1.0"), environment(stoker, "unused", "2.0"))
    used, unused = image_of(stoker, "used"), image_of(stoker, "unused")
    assert "Completed" == ran(stoker, cpu, "first")["phase"]
    note = f"environments/used/{used['digest'].removeprefix('sha256:')}.json"
    deadline = time.monotonic() + NOTED_SECONDS
    while not (noted := stoker.objects(f"s3://{stoker.lab.s3.bucket}/{NAMESPACE}/{note}")):
        assert time.monotonic() < deadline, "nobody noted that a job used the image"
        time.sleep(0.2)
    assert used["digest"] in next(iter(noted.values())).decode()

    # Both Environments name their images: nothing goes, however long it is since their last use.
    assert set() == removed(gc(stoker, "-y"))
    stoker.lab.kubectl("delete", "environment", "unused", "-n", NAMESPACE)
    # What a build's Job and pod made stays for as long as they are there: a minute, which need not pass here.
    builds = ("jobs", "-l", "stoker.dev/environment-build", "-n", NAMESPACE)
    stoker.lab.kubectl("delete", *builds, "--cascade=foreground", "--wait=true")
    shown = gc(stoker, "--dry-run")
    assert (unused["digest"] in removed(shown), in_registry(unused["image"])) == (True, True)
    done = gc(stoker, "-y")

    assert removed(shown) == removed(done)
    assert [False, True] == [in_registry(unused["image"]), in_registry(used["image"])]
    # The Environment goes too: what the job ran with is in its record, and stays.
    stoker.lab.kubectl("delete", "environment/used", "trainingjob/first", "-n", NAMESPACE)
    assert set() == removed(gc(stoker, "-y"))
    stoker.apply(environment(stoker, "used", "1.0"), environment(stoker, "unused", "2.0"))
    second = ran(stoker, cpu, "second")
    assert ("Completed", used["image"]) == (second["phase"], second["environment"]["image"])
    assert "tiny 1.0" in stoker.cli("logs", "second", "-n", NAMESPACE).stdout
    # What went is made again, of the same content.
    again = image_of(stoker, "unused")
    assert ("built", unused["digest"]) == (again["source"], again["digest"])
    assert in_registry(again["image"])
    stoker.lab.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
