"""Makes wheels of source distributions, in the build's own pod: what runs there is the package's own code."""

import asyncio
import platform
import sys
from pathlib import Path

import uv

from stoker.core.environment.lock import Package
from stoker.images.compiling import compiles_for
from stoker.images.failure import BuildFailed, disk_full, killed, out_of_memory
from stoker.images.layers import MTIME
from stoker.images.pip import Indexes, Target, environment, hide_credentials

_BUILD_SECONDS = 3600


def buildable(target: Target) -> bool:
    """Whether wheels made here fit the target: the same Python on the same kind of machine."""
    return compiles_for(target.python) and platform.machine() == target.machine


async def build_wheel(package: Package, archive: Path, indexes: Indexes, scratch: Path) -> Path:
    """The wheel of a source distribution. Raises BuildFailed (SourceOnlyPackage) with the build's last words."""
    out = scratch / f"wheel-{package.sha256}"
    child = await asyncio.create_subprocess_exec(
        uv.find_uv_bin(),
        *("build", "--wheel", "--quiet", "--python", sys.executable, "--out-dir", str(out), str(archive)),
        cwd=scratch,
        env=environment(indexes, scratch) | {"SOURCE_DATE_EPOCH": str(MTIME), "PYTHONHASHSEED": "0"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_BUILD_SECONDS):
            words, _ = await child.communicate()
    except TimeoutError:
        raise BuildFailed("Timeout", f"{package.name}: no wheel after {_BUILD_SECONDS} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    wheels = sorted(out.glob("*.whl"))
    if child.returncode != 0 or len(wheels) != 1:
        said = hide_credentials(words.decode(errors="replace"))[-1500:].strip()
        if "No space left on device" in said:
            raise disk_full(said)
        if killed(child.returncode, said):
            raise out_of_memory(f"the build of {package.name} {package.version} from its source")
        raise BuildFailed(
            "SourceOnlyPackage",
            f"{package.name} {package.version} is offered as source only and its build failed; publish a wheel of it, "
            f"or install it by a docker step\n{said}",
        )
    return wheels[0]
