"""Docker steps against a real registry and a real BuildKit."""

import asyncio
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab import packages
from stoker.core.environment import keys
from stoker.core.environment.context import context_digest
from stoker.core.environment.request import BuildRequest, Context
from stoker.images.build.log import Log
from stoker.images.failure import BuildFailed
from stoker.images.steps.buildkit import Solve, docker_config, solve
from stoker.runtime.wire import Entry
from stoker.storage.archive import zip_texts
from tests.support import buildkits, environments, registries
from tests.support.environments import Built, build, config_of, installed, push_base, request, unpack
from tests.support.registries import PASSWORD, USER, RunningRegistry

pytestmark = pytest.mark.lab

TOOLS = {"PATH": f"{buildkits.buildctl().parent}:{os.environ['PATH']}"}
FILES = {
    "app/main.py": b"print('hi')\n",
    "app/run.sh": b"#!/bin/sh\n",
    "data.txt": b"7\n",
    ".dockerignore": b"*.md\n",
    "x.md": b"",
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry that asks for a password."""
    with registries.registry(tmp_path_factory.mktemp("closed"), password=True) as found:
        yield found


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, registry: RunningRegistry, closed: RunningRegistry
) -> Iterator[str]:
    with buildkits.buildkit(tmp_path_factory.mktemp("bk"), plain=(registry.address, closed.address)) as address:
        yield address


@pytest.fixture(scope="module")
def base(registry: RunningRegistry) -> str:
    return push_base(registry, "bases/shell", {**environments.FILES, "bin/sh": Path("/bin/busybox").read_bytes()})


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A snapshot of some code, as a store signs it."""
    entries = [
        Entry(path, len(content), hashlib.sha256(content).hexdigest(), path.endswith(".sh"))
        for path, content in sorted(FILES.items())
    ]
    folder = tmp_path_factory.mktemp("code")
    (folder / "code.zip").write_bytes(zip_texts(FILES, entries))
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/code.zip"
        yield Context(url=url, digest=context_digest(entries))
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def asked(
    registry: RunningRegistry, base: str, served: packages.Packages, steps: tuple[str, ...], /, **changes: Any
) -> BuildRequest:
    context = changes.get("context")
    key = keys.steps_key(steps, context.digest if context else None, base, environments.PLATFORM)
    return request(registry, base, served, steps=steps, steps_key=key, **changes)


def run(wanted: BuildRequest, folder: Path) -> Built:
    return build(wanted, folder, **TOOLS)


def steps_image(registry: RunningRegistry, wanted: BuildRequest, place: str = "team") -> str:
    """The intermediate image, by its tag."""
    return f"{registry.address}/{place}/environments@steps-{keys.short(wanted.steps_key)}"


COPYING = (
    "ENV A=1 PATH=/app/bin:$PATH",
    'LABEL team="vision and text"',
    "WORKDIR /srv",
    "COPY app /app/",
    "COPY --chown=1000:1000 --chmod=0640 data.txt sub/deep/",
    "COPY . /all/",
    "USER 1000:1000",
    "EXPOSE 8080",
    "STOPSIGNAL SIGINT",
    'ENTRYPOINT ["/app/run.sh"]',
    "CMD serve --port $A",
)


def test_without_run_no_buildkit_is_asked(
    registry: RunningRegistry, base: str, served: packages.Packages, code: Context, tmp_path: Path
) -> None:
    built = run(asked(registry, base, served, COPYING, context=code), tmp_path)

    assert 0 == built.code, built.log
    root = unpack(registry, built.result.image, tmp_path / "root")
    assert b"print('hi')\n" == (root / "app/main.py").read_bytes()
    assert 0o755 == (root / "app/run.sh").stat().st_mode & 0o777
    assert 0o640 == (root / "srv/sub/deep/data.txt").stat().st_mode & 0o777
    assert not (root / "all/x.md").exists()
    assert b"base\n" == (root / "etc/base").read_bytes()


def owners(registry: RunningRegistry, image: str) -> dict[str, tuple[int, int, int]]:
    """Owner and mode of every path that the image's layers after the base's hold."""
    place = image.partition("@")[0]
    found = {}
    for layer in environments.manifest_of(registry, image)["layers"][1:]:
        content = environments.blob(registry, place, layer["digest"])
        plain = environments.zstandard.ZstdDecompressor().stream_reader(content).read()
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            found |= {one.name.strip("/"): (one.uid, one.gid, one.mode & 0o7777) for one in tar if one.name.strip("/")}
    return found


def test_what_is_done_here_is_what_buildkit_does(
    registry: RunningRegistry, base: str, served: packages.Packages, code: Context, daemon: str, tmp_path: Path
) -> None:
    """The one difference: WORKDIR alone makes no folder here; runtimes do."""
    wanted = asked(registry, base, served, COPYING, context=code)
    assert 0 == run(wanted, tmp_path).code
    ours = steps_image(registry, wanted)
    context = tmp_path / "context"
    for path, content in FILES.items():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_bytes(content)
        (context / path).chmod(0o755 if path.endswith(".sh") else 0o644)
    target = f"{registry.address}/theirs/environments"
    digest = through(daemon, base, COPYING, f"{target}:1", tmp_path, context)
    theirs = f"{target}@{digest}"

    roots = [unpack(registry, image, tmp_path / name) for name, image in (("ours", ours), ("theirs", theirs))]
    assert installed(roots[1]) == installed(roots[0])
    assert owners(registry, theirs) == owners(registry, ours)
    mine, other = (config_of(registry, image)["config"] for image in (ours, theirs))
    assert mine["Labels"].pop("dev.stoker.steps-key") == wanted.steps_key
    # It notes that arguments in a shell's form are for a shell of its choice; runtimes do not read that.
    other.pop("ArgsEscaped", None)
    assert other == mine


def test_the_same_steps_make_the_same_image(
    registry: RunningRegistry, base: str, served: packages.Packages, code: Context, tmp_path: Path
) -> None:
    one = asked(registry, base, served, COPYING, context=code, registry=f"{registry.address}/one")
    two = asked(registry, base, served, COPYING, context=code, registry=f"{registry.address}/two")

    made = [run(wanted, tmp_path).result.image for wanted in (one, two)]

    assert made[0].partition("@")[2] == made[1].partition("@")[2] != ""


def test_another_package_list_runs_no_step_again(
    registry: RunningRegistry, base: str, served: packages.Packages, daemon: str, tmp_path: Path
) -> None:
    steps = ("RUN echo made by a step > /made", "ENV A=1")
    pip = {"requirements": ["stoker-tiny==1.0"]}
    first = run(asked(registry, base, served, steps, buildkit=daemon, pip=pip), tmp_path)
    assert 0 == first.code, first.log
    assert "RUN echo made" in first.log

    # Nothing listens there: whoever asked it would wait and fail.
    edited = {"requirements": ["stoker-tiny"]}
    wanted = asked(registry, base, served, steps, buildkit="tcp://127.0.0.1:9", pip=edited)
    second = run(wanted, tmp_path)

    assert 0 == second.code, second.log
    assert "2 steps were done before" in second.log
    root = unpack(registry, second.result.image, tmp_path / "root")
    assert "made by a step\n" == (root / "made").read_text()
    assert "A=1" in config_of(registry, second.result.image)["config"]["Env"]


def test_a_step_that_fails_is_named_with_its_exit_code(
    registry: RunningRegistry, base: str, served: packages.Packages, daemon: str, tmp_path: Path
) -> None:
    steps = ("ENV A=1", "RUN echo fine", "RUN echo the reason; exit 42")

    built = run(asked(registry, base, served, steps, buildkit=daemon), tmp_path)

    assert (1, "DockerStepFailed", "dockerSteps[2]", False) == (
        built.code, built.result.reason, built.result.where, built.result.transient,
    )  # fmt: skip
    assert "step 3 of 3 (RUN echo the reason; exit 42) ended with exit code 42" in built.result.message
    assert "the reason" in built.result.message
    assert "  the reason" in built.log


def test_without_a_builder_the_fix_is_named(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    built = run(asked(registry, base, served, ("RUN true # nobody",)), tmp_path)

    assert "NoBuilderAvailable" == built.result.reason
    assert "buildkit.enabled" in built.result.message


def test_a_file_that_is_not_in_the_code_is_named(
    registry: RunningRegistry, base: str, served: packages.Packages, code: Context, tmp_path: Path
) -> None:
    built = run(asked(registry, base, served, ("COPY nothere /x",), context=code), tmp_path)

    assert (1, "DockerStepFailed") == (built.code, built.result.reason)
    assert "nothere is not in the context" in built.result.message


def test_other_code_than_the_keys_is_refused(
    registry: RunningRegistry, base: str, served: packages.Packages, code: Context, tmp_path: Path
) -> None:
    other = Context(url=code.url, digest="sha256:" + "0" * 64)

    built = run(asked(registry, base, served, ("COPY . /x/",), context=other), tmp_path)

    assert "SnapshotCorrupt" == built.result.reason


# -- BuildKit by itself


def what(daemon: str, base: str, steps: tuple[str, ...], target: str, folder: Path, **changes: Any) -> Solve:
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "work").mkdir(exist_ok=True)
    given = {
        "context": folder / "empty",
        "work": folder / "work",
        "docker_config": docker_config(folder / "docker", [], {}),
        "insecure": True,
        **changes,
    }
    return Solve(base=base, steps=steps, platform=environments.PLATFORM, target=target, address=daemon, **given)


def through(daemon: str, base: str, steps: tuple[str, ...], target: str, folder: Path, context: Path) -> str:
    return asyncio.run(solve(what(daemon, base, steps, target, folder, context=context), Log(io.StringIO())))


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", TOOLS["PATH"])


async def test_nothing_that_listens_is_said_with_the_fix(registry: RunningRegistry, base: str, tmp_path: Path) -> None:
    target = f"{registry.address}/x/environments:1"

    with pytest.raises(BuildFailed) as raised:
        await solve(
            what("tcp://127.0.0.1:9", base, ("RUN true",), target, tmp_path), Log(io.StringIO()), wait_seconds=0.1
        )

    assert ("NoBuilderAvailable", True) == (raised.value.reason, raised.value.transient)
    assert "buildkit.address" in raised.value.message


async def test_credentials_of_the_registry_are_the_mounted_ones(
    closed: RunningRegistry, registry: RunningRegistry, base: str, daemon: str, tmp_path: Path
) -> None:
    target, steps = f"{closed.address}/x/environments:1", ("RUN echo 1 > /one",)

    with pytest.raises(BuildFailed) as raised:
        await solve(what(daemon, base, steps, target, tmp_path), Log(io.StringIO()))
    assert "PushDenied" == raised.value.reason

    known = json.dumps({"auths": {closed.address: {"username": USER, "password": PASSWORD}}})
    auth = docker_config(tmp_path / "auth", [known], {})
    digest = await solve(what(daemon, base, steps, target, tmp_path, docker_config=auth), Log(io.StringIO()))
    assert digest.startswith("sha256:")


async def test_a_base_that_may_not_be_read_is_said(
    closed: RunningRegistry, registry: RunningRegistry, daemon: str, tmp_path: Path
) -> None:
    base = f"{closed.address}/secret/base@sha256:{'1' * 64}"

    with pytest.raises(BuildFailed) as raised:
        await solve(
            what(daemon, base, ("RUN true",), f"{registry.address}/x/environments:2", tmp_path), Log(io.StringIO())
        )

    assert ("BaseImageUnauthorized", "image") == (raised.value.reason, raised.value.where)


async def test_secrets_are_there_while_a_step_runs_and_not_after(
    registry: RunningRegistry, base: str, daemon: str, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("hush-hush")
    step = 'RUN --mount=type=secret,id=token read -r t < /run/secrets/token; [ "$t" = hush-hush ] && echo yes > /ok'
    target, log = f"{registry.address}/secret/environments", io.StringIO()

    digest = await solve(what(daemon, base, (step,), f"{target}:1", tmp_path, secrets=tmp_path / "secrets"), Log(log))

    def look() -> tuple[str, bool]:
        root = unpack(registry, f"{target}@{digest}", tmp_path / "root")
        left = any(b"hush-hush" in path.read_bytes() for path in root.glob("run/**/*") if path.is_file())
        return (root / "ok").read_text(), left

    assert ("yes\n", False) == await asyncio.to_thread(look)

    with pytest.raises(BuildFailed, match="mounts the secret 'token', which is not there") as raised:
        await solve(what(daemon, base, (step,), f"{target}:1", tmp_path, secrets=tmp_path / "none"), Log(log))
    assert "SpecInvalid" == raised.value.reason


class _Told(io.StringIO):
    """A log that tells when a line has come."""

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self._wanted, self.came = wanted, asyncio.Event()

    def write(self, text: str) -> int:
        if self._wanted in text:
            self.came.set()
        return super().write(text)


async def test_a_build_that_is_cancelled_ends_its_step(
    registry: RunningRegistry, base: str, daemon: str, tmp_path: Path
) -> None:
    mark = f"loop-{os.getpid()}"
    step = f"RUN echo begun; name={mark}; while :; do read -r -t 1 x < /dev/null || :; done"
    # Of what the step prints, not of its text.
    log = _Told("   begun")
    target = f"{registry.address}/cancelled/environments:1"
    running = asyncio.create_task(solve(what(daemon, base, (step,), target, tmp_path), Log(log)))
    async with asyncio.timeout(60):
        await log.came.wait()
    assert runs(mark)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    async with asyncio.timeout(20):
        while runs(mark):  # noqa: ASYNC110 (a foreign process has no event)
            await asyncio.sleep(0.1)
    assert running.cancelled()


def runs(mark: str) -> bool:
    """Whether a process of the step is there: the shell that has the step as its argument."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"/bin/sh" and any(mark.encode() in word for word in words):
            return True
    return False
