"""What an environment is, told from within: runs as a job's script and in a plain pod. Prints one line of JSON.

Fits and predicts, so that compiled code and the libraries that it links to are used and not only found.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from typing import Any

MARK = "facts: "
SCRIPTS = ("stoker-tiny", "stoker-tiny-old", "numpy-config --version", "tiny-conda", "native-conda")
MODULES = ("lightgbm", "numpy", "pandas", "sklearn", "stoker_tiny", "stoker_source", "native_conda", "tiny_conda")


def trained() -> dict[str, float]:
    """A line fitted by scikit-learn and one by LightGBM, each asked for a value in between."""
    import lightgbm
    import numpy
    import pandas
    from sklearn.linear_model import LinearRegression

    frame = pandas.DataFrame({"x": numpy.arange(200.0)})
    frame["y"] = 2 * frame.x
    line = LinearRegression().fit(frame[["x"]].to_numpy(), frame.y)
    quiet = {"objective": "regression", "verbose": -1, "min_data_in_leaf": 1, "num_threads": 1}
    trees = lightgbm.train(quiet, lightgbm.Dataset(frame[["x"]], frame.y), 100)
    at = numpy.array([[50.0]])
    return {"sklearn": float(line.predict(at)[0]), "lightgbm": float(trees.predict(at)[0]), "sum": float(frame.y.sum())}


def places() -> dict[str, str]:
    """Of each module that is there: the file."""
    found = {}
    for name in MODULES:
        with contextlib.suppress(ModuleNotFoundError):
            found[name] = str(importlib.import_module(name).__file__)
    return found


def ran(*command: str) -> "list[Any]":
    """Exit code and output of a command from PATH; what it complains of where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return [done.returncode, (done.stderr if done.returncode else done.stdout).strip()]


def shebang(script: str) -> str:
    with open(script, encoding="utf-8") as file:
        return file.readline().strip()


def writable(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "stoker-was-here"), "w"):
            return True
    except OSError:
        return False


def resolved() -> dict[str, bool]:
    """Of each entry point: whether it leads to something that can be called."""
    points = importlib.metadata.entry_points(group="console_scripts")
    return {point.name: callable(point.load()) for point in points}


def main() -> None:
    listed = ran("pip", "list", "--format", "json", "--disable-pip-version-check")
    facts = {
        "uid": os.getuid(),
        "writable": [folder for folder in (sys.prefix, "/", "/tmp") if writable(folder)],
        "on_path": {name: shutil.which(name) for name in ("python", "python3", "pip")},
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "version": platform.python_version(),
        "variables": {name: os.environ.get(name, "") for name in ("VIRTUAL_ENV", "CONDA_PREFIX")},
        "trained": trained(),
        "places": places(),
        "pip_list": listed,
        "pip_check": ran("pip", "check"),
        "scripts": {line: ran(*line.split()) for line in SCRIPTS if shutil.which(line.split()[0])},
        "shebangs": {name: shebang(path) for name in ("stoker-tiny", "f2py") if (path := shutil.which(name))},
        "entry_points": resolved(),
    }
    print(MARK + json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
