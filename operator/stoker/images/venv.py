"""The frame of an environment on the base's Python: what `python -m venv --without-pip` makes.

On PATH the base's pip would come next, which lists and installs packages where the environment's Python sees none of
them. So the frame has a pip of two lines: the base's, told to work on the environment.
"""

from stoker.images.layers import File, Folder, Link
from stoker.images.wheel import Layout

#: pip 22.3 and later know --python.
_PIP = """\
#!/bin/sh
# The base's pip, on this environment, which has none of its own: `pip` in its list of packages brings one.
exec {base} -m pip --python {own} "$@"
"""


def skeleton(layout: Layout, interpreter: str, version: str, *, own_pip: bool) -> dict[str, File | Link | Folder]:
    """interpreter: absolute path in the base, such as /usr/bin/python3.11. version: its full version. own_pip: whether pip
    is one of the environment's packages.

    Without activate scripts: the environment is on PATH in the image.
    """
    home = interpreter.rpartition("/")[0]
    config = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
    root = layout.prefix.lstrip("/")
    pip = File.of(_PIP.format(base=interpreter, own=layout.interpreter).encode(), executable=True)
    pips: dict[str, File | Link | Folder] = {} if own_pip else {f"{root}/bin/{name}": pip for name in ("pip", "pip3")}
    return pips | {
        f"{root}/pyvenv.cfg": File.of(config.encode()),
        f"{root}/bin/python": Link(interpreter),
        f"{root}/bin/python3": Link("python"),
        f"{root}/bin/python{layout.python}": Link("python"),
        f"{root}/lib64": Link("lib"),
        layout.site_packages.lstrip("/"): Folder(),
    }
