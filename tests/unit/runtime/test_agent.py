"""The agent is one file, the same each time, that old Pythons read and that needs nothing but itself."""

import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import stoker.runtime
from stoker.runtime import build

SOURCES = sorted(Path(stoker.runtime.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_syntax_is_that_of_python_3_8(source: Path) -> None:
    ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_nothing_but_the_standard_library_and_the_runtime_is_imported(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide what is imported"
            names = [node.module or ""]
        for name in names:
            known = name.split(".")[0] in sys.stdlib_module_names or name.startswith("stoker.runtime")
            assert known or name == "stoker", f"{source.name} imports {name}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_annotations_are_never_evaluated(source: Path) -> None:
    """`dict[str, int]` as an annotation is fine for Python 3.8 only as long as nobody evaluates it."""
    text = source.read_text(encoding="utf-8")

    assert source.name == "__init__.py" or "from __future__ import annotations" in text


def test_two_builds_are_equal() -> None:
    assert build.agent_bytes() == build.agent_bytes()


def test_the_agent_holds_the_runtime_and_nothing_else() -> None:
    names = zipfile.ZipFile(io.BytesIO(build.agent_bytes())).namelist()

    assert {"__main__.py", "stoker/__init__.py", "stoker/runtime/launch.sh"} < set(names)
    assert all(
        name.startswith("stoker/runtime/") for name in names if name not in ("__main__.py", "stoker/__init__.py")
    )


def test_the_running_agent_can_copy_itself(tmp_path: Path) -> None:
    first, second, launcher = tmp_path / "first.pyz", tmp_path / "second.pyz", tmp_path / "launch"
    first.write_bytes(build.agent_bytes())
    script = (
        f"import sys; sys.path.insert(0, {str(first)!r}); from stoker.runtime import build; "
        f"assert {str(first)!r} in build.__file__; build.install({str(second)!r}, {str(launcher)!r})"
    )

    subprocess.run([sys.executable, "-I", "-c", script], check=True)

    assert first.read_bytes() == second.read_bytes()
    assert build.launcher_bytes() == launcher.read_bytes()
    assert os.access(launcher, os.X_OK)


def test_the_build_command_writes_a_file_that_runs(tmp_path: Path) -> None:
    agent = tmp_path / "agent.pyz"
    subprocess.run(
        [sys.executable, "-m", "stoker.runtime.build", str(agent)], check=True,
        env={"PYTHONPATH": str(SOURCES[0].parents[2])},
    )  # fmt: skip

    done = subprocess.run([sys.executable, "-I", str(agent)], capture_output=True, text=True, check=False)

    assert (done.returncode, "fetch | ship | launch" in done.stderr) == (2, True)


def test_an_old_python_is_told_what_is_needed() -> None:
    """The first file of the agent must be readable by any Python, to be able to say so."""
    main = zipfile.ZipFile(io.BytesIO(build.agent_bytes())).read("__main__.py").decode("ascii")

    assert "Python 3.8 or later is needed" in main
    assert "f'" not in main
    assert 'f"' not in main


def test_the_launch_script_is_portable_shell() -> None:
    subprocess.run(["sh", "-n", str(SOURCES[0].parent / "launch.sh")], check=True)
