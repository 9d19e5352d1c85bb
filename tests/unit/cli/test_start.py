"""Starting costs nothing: no heavy import before a command needs it."""

import subprocess
import sys

import pytest


def imported(*arguments: str) -> set[str]:
    code = "import sys; sys.argv = ['stoker', *sys.argv[1:]]\nfrom stoker.cli.__main__ import main\nmain()\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_version_imports_nothing_heavy() -> None:
    assert not {"click", "yaml", "msgspec", "kubernetes", "rich", "asyncio"} & imported("--version")


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("ls", "--compute", "local"), ("snapshot", "--help"), ("doctor", "--help")],
)
def test_commands_import_no_cluster_client(arguments: tuple[str, ...]) -> None:
    assert not {"kubernetes", "rich", "obstore", "uv", "websocket"} & imported(*arguments)


@pytest.mark.parametrize(
    "command",
    [
        "init",
        "run",
        "ls",
        "show",
        "logs",
        "why",
        "cancel",
        "pull",
        "rm",
        "gc",
        "snapshot",
        "env",
        "registry",
        "doctor",
        "completion",
    ],
)
def test_every_command_has_help_with_examples(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stoker.cli", command, "--help"], capture_output=True, text=True, check=True
    )

    assert "stoker " + command in done.stdout
    assert "Examples:" in done.stdout


def test_without_a_command_there_is_the_help_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-m", "stoker.cli"], capture_output=True, text=True)

    assert 2 == done.returncode
    assert done.stderr.startswith("Usage: stoker ")
    assert "see `stoker --help`" not in done.stderr
