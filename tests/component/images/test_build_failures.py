"""What the builder answers when something around it fails: the reason, and whether another try may help."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from lab import packages
from stoker.core.environment.request import MOST_RESULT_BYTES, BuildResult
from stoker.images.build.__main__ import shortened
from tests.support import environments, registries
from tests.support.environments import build, push_base, request
from tests.support.registries import RunningRegistry


def test_a_file_that_is_not_the_one_that_the_index_names_is_refused(
    registry: RunningRegistry, base: str, package_folder: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "index"
    (changed / "files").mkdir(parents=True)
    packages.make_wheel(changed / "files", "forged", "1.0", {"forged.py": "A = 1\n"})
    packages.write_index(changed)
    packages.make_wheel(changed / "files", "forged", "1.0", {"forged.py": "A = 2\n"})

    with packages.serving(changed) as served:
        built = build(request(registry, base, served, pip={"requirements": ["forged"]}), tmp_path)

    assert (1, "HashMismatch") == (built.code, built.result.reason)
    assert "forged" in built.result.message


def test_an_index_that_asks_for_a_password_is_named_with_the_fix(
    registry: RunningRegistry, base: str, package_folder: Path, tmp_path: Path
) -> None:
    with packages.serving(package_folder, login="user:secret") as served:
        built = build(request(registry, base, served, pip={"requirements": ["stoker-tiny"]}), tmp_path)

    assert (1, "IndexUnauthorized") == (built.code, built.result.reason)
    assert "mirrors.secretRef" in built.result.message
    assert "secret" not in built.result.message.replace("mirrors.secretRef", "").replace("Secret", "")


def test_credentials_of_an_index_are_used_and_left_nowhere(
    registry: RunningRegistry, base: str, package_folder: Path, tmp_path: Path
) -> None:
    with packages.serving(package_folder, login="user:word-of-pass") as served:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password word-of-pass\n")
        netrc.chmod(0o600)
        wanted = request(
            registry, base, served, pip={"requirements": ["stoker-tiny"]}, registry=f"{registry.address}/netrc"
        )
        built = build(wanted, tmp_path, NETRC=str(netrc))

    assert 0 == built.code, built.log
    assert "word-of-pass" not in built.log
    stored = subprocess.run(["grep", "-rl", "word-of-pass", str(registry.folder)], capture_output=True, text=True)
    assert "" == stored.stdout


def test_a_registry_that_refuses_a_push_is_no_reason_to_try_again(served: packages.Packages, tmp_path: Path) -> None:
    with registries.registry(tmp_path, password=True) as guarded:
        base = push_base(guarded)

        built = build(request(guarded, base, served, pip={"requirements": ["stoker-tiny"]}), tmp_path)

    assert 1 == built.code
    assert "Unauthorized" in built.result.reason
    assert "401" in built.result.message


def test_a_registry_that_is_away_is_worth_another_try(served: packages.Packages, tmp_path: Path) -> None:
    with registries.registry(tmp_path) as gone:
        base = push_base(gone)

    built = build(request(gone, base, served, pip={"requirements": ["stoker-tiny"]}), tmp_path)

    assert (2, "RegistryUnreachable", True) == (built.code, built.result.reason, built.result.transient)


def test_a_part_of_the_build_that_is_killed_is_called_out_of_memory(
    registry: RunningRegistry, base: str, tmp_path: Path
) -> None:
    """As on a node where the kernel ends the largest process alone: the builder itself lives on and is asked why."""
    index = tmp_path / "index"
    (index / "files").mkdir(parents=True)
    packages.make_source(
        index / "files", "hungry", "1.0", first="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    packages.write_index(index)

    with packages.serving(index) as served:
        built = build(request(registry, base, served, pip={"requirements": ["hungry"]}), tmp_path)

    assert (1, "OutOfMemory") == (built.code, built.result.reason), built.log
    assert "the build of hungry 1.0 from its source was killed" in built.result.message


def test_a_full_scratch_folder_is_named(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """A file system of 8 MB in a namespace of mounts of its own; scipy's wheel has 35 MB."""
    wanted = request(registry, base, served, pip={"requirements": ["scipy"]}, registry=f"{registry.address}/full")
    (tmp_path / "scratch").mkdir()

    built = build(
        wanted,
        tmp_path,
        within=(
            "unshare",
            "--mount",
            "sh",
            "-c",
            f'mount -t tmpfs -o size=8m none {tmp_path}/scratch && exec "$@"',
            "sh",
        ),
    )

    assert (2, "DiskFull", True) == (built.code, built.result.reason, built.result.transient)


def test_an_ordinary_user_with_a_read_only_root_can_build(
    registry: RunningRegistry, base: str, served: packages.Packages
) -> None:
    """As its pod runs it: user 1000, nothing to write to but the scratch folder."""
    wanted = request(
        registry,
        base,
        served,
        pip={"requirements": ["stoker-tiny"]},
        registry=f"{registry.address}/user",
    )
    # Not below pytest's folder, which is for its own user only.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        work = Path(name)
        (work / "scratch").mkdir()
        for each in (work, work / "scratch"):
            shutil.chown(each, 1000, 1000)

        # This machine's own Python: the venv's may lie in somebody's home.
        built = build(wanted, work, within=environments.as_user(work), python="/usr/bin/python3.11")

    assert 0 == built.code, built.log


def test_a_long_answer_keeps_its_beginning_and_its_end() -> None:
    result = BuildResult(reason="PipUnsatisfiable", message="first " + "é\n" * 5000 + " last", where="w" * 900)

    content = shortened(result)

    assert len(content) <= MOST_RESULT_BYTES
    kept = msgspec.json.decode(content, type=BuildResult)
    assert kept.message.startswith("first")
    assert kept.message.endswith("last")


def test_a_request_that_cannot_be_read_ends_with_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stoker.images.build"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "operator", "STOKER_BUILD": json.dumps({"version": 1})},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 1 == done.returncode
    assert "STOKER_BUILD holds no build request" in done.stderr
