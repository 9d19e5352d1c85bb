"""The frame of an environment on the base's Python: what `python -m venv --without-pip` makes."""

from stoker.images.layers import File, Folder, Link
from stoker.images.wheel import Layout


def skeleton(layout: Layout, interpreter: str, version: str) -> dict[str, File | Link | Folder]:
    """interpreter: absolute path in the base, such as /usr/bin/python3.11. version: its full version.

    Without activate scripts: the environment is on PATH in the image.
    """
    home = interpreter.rpartition("/")[0]
    config = f"home = {home}\ninclude-system-site-packages = false\nversion = {version}\n"
    root = layout.prefix.lstrip("/")
    return {
        f"{root}/pyvenv.cfg": File.of(config.encode()),
        f"{root}/bin/python": Link(interpreter),
        f"{root}/bin/python3": Link("python"),
        f"{root}/bin/python{layout.python}": Link("python"),
        f"{root}/lib64": Link("lib"),
        layout.site_packages.lstrip("/"): Folder(),
    }
