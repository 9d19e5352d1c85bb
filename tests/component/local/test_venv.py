"""Packages that this Python lacks go into a venv of the user's cache, made once. No network: a wheel made here."""

import zipfile
from pathlib import Path

import pytest

from tests.support.cli import Cli


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with one tiny wheel, `stokertiny` 1.0."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "stokertiny-1.0.dist-info"
    files = {
        "stokertiny.py": "VALUE = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: stokertiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "stokertiny-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
    return folder


@pytest.fixture
def offline(cli: Cli, wheels: Path) -> Cli:
    """A project that needs the wheel."""
    cli.env = {"UV_OFFLINE": "1"}
    cli.write(
        requirements__txt=f"--no-index\n--find-links {wheels}\nstokertiny==1.0\n",
        train__py="import stokertiny, sys\nprint(stokertiny.VALUE, sys.prefix)\n",
    )
    return cli


def venvs(cli: Cli) -> list[str]:
    return sorted(path.name for path in (cli.cache / "stoker" / "venvs").iterdir() if path.is_dir())


def test_a_venv_is_made_once_and_used_again(offline: Cli) -> None:
    first = offline("run", "train.py")
    second = offline("run", "train.py")

    assert "installing stokertiny==1.0 with uv" in first.stderr
    assert "installing" not in second.stderr
    assert f"42 {offline.cache}/stoker/venvs/" in second.stdout
    assert 1 == len(venvs(offline))
    assert "requirements.txt" in second.stderr


def test_system_is_the_python_that_runs_stoker(offline: Cli) -> None:
    done = offline("run", "train.py", "--environment", "system", code=1)

    assert "No module named 'stokertiny'" in done.stdout
    assert not (offline.cache / "stoker" / "venvs").exists()


def test_packages_that_there_are_none_of_are_named(offline: Cli) -> None:
    offline.write(requirements__txt="--no-index\nstoker-no-such-package\n")

    done = offline("run", "train.py", code=125)

    assert "stoker-no-such-package" in done.stderr
    assert [] == venvs(offline)


def test_two_at_once_make_one_venv(offline: Cli) -> None:
    runs = [offline.start("run", "train.py") for _ in range(2)]
    ends = [run.communicate(timeout=120) for run in runs]

    assert [0, 0] == [run.returncode for run in runs], ends
    assert 1 == len(venvs(offline))
    assert 1 == sum("installing stokertiny" in err for _, err in ends)
