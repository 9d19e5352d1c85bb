"""The agent as one file: a zipapp that any Python 3.8 or later runs, and whose bytes depend on the sources alone."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from typing import Dict

from stoker import __version__
from stoker.runtime.layout import write_atomic

_PACKAGE = os.path.dirname(os.path.abspath(__file__))

# Runs under whatever `python3` is; so it must be readable by any Python, and hands over to sh when that is too old
# or lacks a part of the standard library.
_MAIN = """\
import os
import sys

held = None
try:
    if sys.version_info < (3, 8):
        raise ImportError("Python 3.8 or later is needed, this is %s" % sys.version.split()[0])
    from stoker.runtime import held

    if sys.argv[1:2] != ["check-packages"]:
        held.hold()
    from stoker.runtime.__main__ import main
except ImportError as error:
    launcher = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "launch")
    if sys.argv[1:2] != ["launch"] or not os.path.exists(launcher):
        sys.exit("stoker-agent: %s" % error)
    os.environ["STOKER_LAUNCH_WITH"] = "sh"
    if held is not None:
        held.hand_over()
    os.execv("/bin/sh", ["sh", launcher] + sys.argv[2:])
sys.exit(main(sys.argv[1:]))
"""


def agent_bytes() -> bytes:
    """The zipapp that this code belongs to: the running one as it is, else one made from the installed package."""
    archive = os.path.dirname(os.path.dirname(_PACKAGE))
    if os.path.isfile(archive):
        with open(archive, "rb") as file:
            return file.read()
    return _zipapp(_sources())


def launcher_bytes() -> bytes:
    """The shell script that starts launch under Python, or does its work itself where there is none."""
    loader = globals()["__loader__"]
    content = loader.get_data(os.path.join(_PACKAGE, "launch.sh"))
    assert isinstance(content, bytes)
    return content


def install(agent: str, launcher: str) -> None:
    """Put the agent and the launcher script into place; both may be replaced while they run."""
    write_atomic(agent, agent_bytes(), 0o755)
    write_atomic(launcher, launcher_bytes(), 0o755)


def _sources() -> Dict[str, bytes]:
    sources = {
        "__main__.py": _MAIN.encode("ascii"),
        # Not the file of the whole distribution: the agent carries nothing but the runtime.
        "stoker/__init__.py": ('__version__ = "%s"\n' % __version__).encode("ascii"),
    }
    for folder, _, names in os.walk(_PACKAGE):
        for name in names:
            if name.endswith((".py", ".sh")):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    below = os.path.relpath(path, _PACKAGE).replace(os.sep, "/")
                    sources["stoker/runtime/" + below] = file.read()
    return sources


def _zipapp(sources: Dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    # Stored, not deflated: a Python without zlib can import it, and the bytes do not depend on zlib's version.
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as package:
        for name in sorted(sources):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100644 << 16
            package.writestr(info, sources[name])
    return buffer.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stoker.runtime.build FILE.pyz")
    write_atomic(os.path.abspath(sys.argv[1]), agent_bytes(), 0o755)
