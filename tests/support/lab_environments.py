"""Environments in an installed Stoker: their manifests, what is told of them, and the builds that they have."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lab import packages
from tests.support.installed import PATIENCE, Stoker, training_job

Object = dict[str, Any]
#: Says where a package is imported from, and its version.
CODE = {"main.py": "import stoker_tiny, sys\nprint('tiny', stoker_tiny.VERSION, sys.prefix)\n"}


def environment(stoker: Stoker, name: str, *, namespace: str = "default", **spec: Any) -> Object:
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"image": stoker.lab.images["base"], **spec},
    }


def workspace(namespace: str, **spec: Any) -> Object:
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": spec,
    }


def job(name: str, cpu: str, env: str, command: str = "python main.py", *, namespace: str = "default") -> Object:
    """A job that runs in an Environment."""
    made = training_job(name, command, image="x", compute=cpu, files=CODE, namespace=namespace)
    made["spec"]["command"]["environment"] = {"name": env}
    return made


def condition(seen: Object, kind: str) -> Object:
    """A condition of the spec as it is now; empty where it is not told yet."""
    status = seen.get("status") or {}
    if status.get("observedGeneration") != seen["metadata"]["generation"]:
        return {}
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})


def ready(seen: Object) -> bool:
    return bool(condition(seen, "Ready").get("status") == "True")


def stalled(seen: Object) -> bool:
    return bool(condition(seen, "Stalled").get("status") == "True")


def waits_for(reason: str) -> Callable[[Object], bool]:
    """Whether it is not ready for this reason."""
    return lambda seen: bool(condition(seen, "Ready").get("reason") == reason)


def told(stoker: Stoker, name: str, namespace: str = "default", seconds: float = PATIENCE) -> tuple[str, str]:
    """Why only a person can mend an Environment: reason and message."""
    found = condition(stoker.until("environment", name, stalled, namespace=namespace, seconds=seconds), "Stalled")
    return found["reason"], found["message"]


def image(stoker: Stoker, name: str, namespace: str = "default", seconds: float = PATIENCE) -> Object:
    """An Environment's image once it has one, as its status tells it."""
    found: Object = stoker.until("environment", name, ready, namespace=namespace, seconds=seconds)["status"]["images"][
        0
    ]
    return found


def builds(stoker: Stoker, spec_key: str = "", namespace: str = "default") -> list[str]:
    """Names of the Jobs of builds that are there."""
    found = stoker.items("jobs", "stoker.dev/environment-build", namespace)
    return [
        one["metadata"]["name"] for one in found
        if not spec_key or one["metadata"]["annotations"]["stoker.dev/spec-key"] == spec_key
    ]  # fmt: skip


def over(stoker: Stoker, build: str, namespace: str = "default") -> bool:
    """Whether a build's Job has ended."""
    conditions = stoker.get("job", build, namespace).get("status", {}).get("conditions", ())
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def report(stoker: Stoker, build: str, namespace: str = "default") -> Object:
    """What a build's pod answered."""
    (pod,) = stoker.items("pods", f"job-name={build}", namespace)
    (container,) = pod["status"]["containerStatuses"]
    answer: Object = json.loads(container["state"]["terminated"]["message"])
    return answer


def eventually(holds: Callable[[], Any], what: str, stoker: Stoker, seconds: float = PATIENCE) -> Any:
    """What `holds` returns once it is true of the cluster."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {seconds} s\n{stoker.state()}")
        time.sleep(0.2)
    return found


@contextmanager
def waiting_package(stoker: Stoker, folder: Path) -> Iterator[tuple[list[str], socket.socket]]:
    """Lines of pip for the package `waiting`, and the socket to which its own build connects; it goes on when it gets a
    byte there. folder: an empty one."""
    host = stoker.lab.bridge_address
    (folder / "files").mkdir()
    with closing(socket.create_server((host, 0))) as gate:
        gate.settimeout(PATIENCE)
        wait = f"import socket; socket.create_connection({gate.getsockname()!r}).recv(1)"
        packages.make_source(folder / "files", "waiting", "1.0", first=wait)
        packages.write_index(folder)
        with packages.serving(folder, host) as served:
            yield [f"--index-url {served.pypi}", "waiting==1.0"], gate


def remove(stoker: Stoker, *names: str, namespace: str = "default") -> None:
    stoker.lab.kubectl("delete", "--ignore-not-found", "-n", namespace, *names)
