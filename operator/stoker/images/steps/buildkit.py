"""Docker steps through BuildKit: a Dockerfile of the base and the steps, solved by buildctl, pushed by the daemon.

buildctl brings context, secrets and registry credentials to the daemon over its own connection, for this solve alone.
"""

import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stoker.core.environment.stepplace import SECRETS_DIRECTORY, rest
from stoker.core.environment.stepwords import split_flags
from stoker.images.build.log import Log
from stoker.images.failure import BuildFailed
from stoker.images.layers import MTIME
from stoker.images.steps import told

BUILDCTL = "buildctl"
STAGE = "steps"
#: A daemon that is being started gets so long to listen (seconds).
WAIT_SECONDS = 180.0
_AGAIN_SECONDS = 0.5
_CONNECT_SECONDS = 5.0
#: buildctl's longest line: a step's text and what it printed, in base64.
_LONGEST_LINE = 16 << 20


@dataclass(frozen=True, slots=True)
class Solve:
    """One image of a base and steps. base: pinned by digest, as the daemon reaches it. target: reference with the tag to push
    to. labels: of the image. address: the daemon's, such as tcp://buildkit-team.stoker-privileged.svc:1234. docker_config: folder with the
    config.json of the registries. insecure: whether the target's registry speaks http."""

    base: str
    steps: tuple[str, ...]
    platform: str
    target: str
    address: str
    context: Path
    work: Path
    docker_config: Path
    insecure: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Path = Path(SECRETS_DIRECTORY)


def dockerfile(base: str, steps: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """The Dockerfile, and the line at which each step begins.

    It begins with FROM, so that nothing in the steps can be read as a directive such as `# syntax=`.
    """
    text, lines = f"FROM {base}\n", []
    for step in steps:
        lines.append(text.count("\n") + 1)
        text += step.rstrip("\n") + "\n"
    return text, tuple(lines)


def secret_ids(steps: Sequence[str]) -> tuple[str, ...]:
    """Ids of the secrets that the steps mount; without an id it is the target's file name, as in a Dockerfile."""
    found: dict[str, None] = {}
    for step in steps:
        flags, _ = split_flags(rest(step))
        for _, value in flags:
            options = dict(option.partition("=")[::2] for option in value.split(","))
            if options.get("type") == "secret":
                target = options.get("target") or options.get("dst") or options.get("destination") or ""
                found[options.get("id") or target.rpartition("/")[2]] = None
    return tuple(name for name in found if name)


def command(solve: Solve, metadata: Path) -> list[str]:
    """buildctl's words. Raises BuildFailed (SpecInvalid) for a secret that the Environment does not name."""
    dockerfile_folder = solve.work / "dockerfile"
    output = f"type=image,name={solve.target},push=true,oci-mediatypes=true,compression=zstd,rewrite-timestamp=true" + (
        ",registry.insecure=true" if solve.insecure else ""
    )
    words = [
        *(BUILDCTL, "--addr", solve.address, "build", "--progress=rawjson", "--frontend=dockerfile.v0"),
        *("--local", f"context={solve.context}", "--local", f"dockerfile={dockerfile_folder}"),
        *("--opt", f"platform={solve.platform}", "--opt", f"build-arg:SOURCE_DATE_EPOCH={MTIME}"),
        *(word for name, value in solve.labels.items() for word in ("--opt", f"label:{name}={value}")),
        *("--output", output, "--metadata-file", str(metadata)),
    ]
    for name in secret_ids(solve.steps):
        file = solve.secrets / name
        if not file.is_file():
            raise BuildFailed(
                "SpecInvalid",
                f"a docker step mounts the secret {name!r}, which is not there: name it in spec.secrets",
                where="secrets",
            )
        words += ["--secret", f"id={name},src={file}"]
    return words


async def solve(what: Solve, log: Log, *, wait_seconds: float = WAIT_SECONDS) -> str:
    """Builds and pushes; the digest of what was pushed. Raises BuildFailed.

    When it is cancelled, buildctl ends and the daemon drops the solve.
    """
    metadata = what.work / "metadata.json"
    words = command(what, metadata)
    text, lines = dockerfile(what.base, what.steps)
    (what.work / "dockerfile").mkdir(parents=True, exist_ok=True)
    (what.work / "dockerfile" / "Dockerfile").write_text(text, encoding="utf-8")
    await reachable(what.address, log, wait_seconds)
    progress = told.Progress()
    code = await _run(words, _variables(what), progress, log)
    if code != 0:
        raise told.failure("\n".join(progress.words), progress.tail, what.steps, lines, what.target.partition("/")[0])
    return str(told.document(metadata.read_text())["containerimage.digest"])


def _variables(what: Solve) -> dict[str, str]:
    return {
        **os.environ,
        "DOCKER_CONFIG": str(what.docker_config),
        "SOURCE_DATE_EPOCH": str(MTIME),
        "HOME": str(what.work),
    }


async def _run(words: Sequence[str], variables: Mapping[str, str], progress: told.Progress, log: Log) -> int:
    try:
        child = await asyncio.create_subprocess_exec(
            *words,
            env=variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
    except FileNotFoundError:
        raise BuildFailed(
            "NoBuilderAvailable", f"{words[0]} is not in this image: use the operator's own as the builder image"
        ) from None
    assert child.stderr is not None
    try:
        async for line in child.stderr:
            for fact, seconds in progress.read(line.decode(errors="replace").rstrip("\n")):
                log.fact(STAGE, fact, seconds)
        return await child.wait()
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()


async def reachable(address: str, log: Log, wait_seconds: float) -> None:
    """Until something listens there: a daemon that was asleep takes a while. Raises BuildFailed (NoBuilderAvailable)."""
    if not address.startswith("tcp://"):
        return
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    loop = asyncio.get_running_loop()
    end, told_once = loop.time() + wait_seconds, False
    while True:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            return
        except (OSError, socket.gaierror) as error:
            if loop.time() > end:
                raise BuildFailed(
                    "NoBuilderAvailable",
                    f"nothing listens at {address} after {wait_seconds:.0f} s ({error}): look at the pods in "
                    "stoker-privileged, or set buildkit.address to a daemon of yours",
                    transient=True,
                ) from None
        if not told_once:
            log.fact(STAGE, f"waiting for BuildKit at {address}")
            told_once = True
        # Nothing tells when a foreign port opens.
        await asyncio.sleep(_AGAIN_SECONDS)


def docker_config(folder: Path, documents: Sequence[str], addresses: Mapping[str, str]) -> Path:
    """A folder for DOCKER_CONFIG from the content of mounted Secrets; the first one that names a registry wins.

    addresses: registry -> where it is reached instead, whose credentials are the same.
    """
    auths: dict[str, object] = {}
    for text in documents:
        auths = (json.loads(text).get("auths") or {}) | auths
    # An entry may be for a part of a registry; buildctl asks for the host alone.
    hosts = {name.partition("/")[0]: one for name, one in sorted(auths.items()) if "://" not in name}
    auths = hosts | auths
    auths |= {address: auths[registry] for registry, address in addresses.items() if registry in auths}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": auths}))
    return folder
