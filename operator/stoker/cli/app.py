"""The commands of `stoker`, each imported when it is called; one place turns errors into messages and exit codes."""

import io
import os
import sys
from collections.abc import Sequence

import click

from stoker.cli.group import Commands
from stoker.errors import EXIT_CANCELLED, EXIT_PLATFORM, EXIT_USAGE, StokerError

#: Command -> (module below stoker.cli, one line of help). The order is the one in `stoker --help`.
COMMANDS = {
    "init": ("start", "Write a commented job.yaml and .amlignore."),
    "run": ("run", "Train: on this machine, or on a cluster with --compute."),
    "convert": ("convert", "Print an Azure ML file as a manifest, for Git."),
    "ls": ("jobs", "List runs, local ones and the cluster's."),
    "show": ("jobs", "Show one run: phase, times, outputs."),
    "logs": ("logs", "Print a run's log; also after its pods are gone."),
    "why": ("jobs", "Say why a run waits, or how it ended."),
    "cancel": ("jobs", "End a run; what it saved stays."),
    "suspend": ("suspend", "Stop a run and give its nodes back, for now."),
    "resume": ("suspend", "Let a suspended run go on from its checkpoints."),
    "pull": ("pull", "Copy a run's outputs to this machine."),
    "rerun": ("rerun", "Run a run again, from its record."),
    "diff": ("diff", "Say in what two runs differ."),
    "rm": ("rm", "Remove finished runs: record, logs, outputs."),
    "gc": ("gc", "Remove what retention does not keep, and unused snapshots."),
    "snapshot": ("snapshot", "List what of a folder is sent, and why."),
    "compute": ("compute", "Pools of nodes: what they have, and why."),
    "env": ("env", "Environments: their keys, and what differs."),
    "registry": ("registry", "Bring images into a registry without a way out."),
    "doctor": ("doctor", "Say what works: cluster, way in, store."),
    "job": ("run", "job create -f FILE: submit without following."),
    "completion": ("start", "Print the shell's completion script."),
}
_WITH_VALUE = ("--context", "--namespace", "-n", "--output", "-o")
_SWITCHES = ("--quiet", "-q")
#: A flag and its value as one word: `--output=json`, `-ojson`.
_JOINED = ("--context=", "--namespace=", "--output=", "-n", "-o")
_EPILOG = """\b
Examples:
  stoker init                                  a first job.yaml
  stoker run                                   the job.yaml in this folder, on this machine
  stoker run examples/iris --compute cpu       the same on the cluster's pool cpu
  stoker run train.py -- --lr 0.1              a script, with no file at all
  stoker logs @last --wait                     follow, and exit as the job does

\b
Everywhere: --context C  --namespace/-n N  --output/-o table|json|yaml|name  --quiet/-q
Exit codes: the job's own; 2 usage, 124 time, 125 platform, 130 cancelled.
"""


@click.group(
    cls=Commands,
    package="stoker.cli",
    table=COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--version", is_flag=True, help="Print the version.")
def cli(version: bool) -> None:
    """Train here or on a cluster: a folder with a script becomes stored logs and outputs."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; every error has been told."""
    _make_streams_ready()
    try:
        # standalone_mode would print errors in click's words and turn Ctrl-C into exit code 1.
        code = cli.main(_ordered(arguments), prog_name="stoker", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return EXIT_USAGE
    except click.ClickException as error:
        return _tell_click(error)
    except (click.Abort, KeyboardInterrupt):
        print("stoker: cancelled", file=sys.stderr)
        return EXIT_CANCELLED
    except StokerError as error:
        print(f"stoker: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return _enough()
    except SystemExit as error:
        # click ends with 1 for a pipe whose reader has gone, whatever standalone_mode says.
        return _enough() if type(sys.stdout).__name__.endswith("PacifyFlushWrapper") else _exit_code(error)
    except _other_errors() as error:
        print(f"stoker: {_words(error)}", file=sys.stderr)
        return EXIT_PLATFORM
    except Exception:
        # A mistake of ours must not look like an exit code of the job.
        import traceback

        traceback.print_exc()
        print("stoker: this is a mistake in Stoker; please report it with the lines above", file=sys.stderr)
        return EXIT_PLATFORM
    return code if isinstance(code, int) else 0


def _make_streams_ready() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Closed by our caller: print would send prose to the data's place, and a file of ours could become descriptor 1.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")


def _exit_code(error: SystemExit) -> int:
    return error.code if isinstance(error.code, int) else 0


def _enough() -> int:
    """Whoever read our output has enough. What is buffered must not raise again while Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return 0


def _other_errors() -> tuple[type[Exception], ...]:
    """Errors of lower layers that are for people; asked only when an exception is on its way."""
    found: list[type[Exception]] = [OSError]
    for name, classes in (
        ("stoker.storage.objects", ("StoreError",)), ("stoker.storage.listing", ("SnapshotError",)),
        ("stoker.runtime.unpack", ("UnpackRefused",)), ("stoker.runtime.fetch", ("FetchFailed",)),
    ):  # fmt: skip
        if name in sys.modules:
            found += [getattr(sys.modules[name], one) for one in classes]
    return tuple(found)


def _words(error: Exception) -> str:
    """Without an error's number, which says nothing to a person."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _tell_click(error: click.ClickException) -> int:
    words = error.format_message()
    where = getattr(error, "ctx", None)
    print(f"stoker: {words}", file=sys.stderr)
    if where is not None:
        print(f"see `{where.command_path} --help`", file=sys.stderr)
    return EXIT_USAGE if isinstance(error, click.UsageError) else error.exit_code


def _ordered(arguments: Sequence[str]) -> list[str]:
    """Global flags in front of the command go behind it, where they are declared: both places are natural."""
    front: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest[0]
        if word in _WITH_VALUE and len(rest) > 1:
            front += [rest.pop(0), rest.pop(0)]
        elif word in _SWITCHES or word.startswith(_JOINED):
            front.append(rest.pop(0))
        else:
            break
    depth = 2 if rest[:1] in (["job"], ["env"], ["registry"]) and len(rest) > 1 else 1
    return [*rest[:depth], *front, *rest[depth:]]
