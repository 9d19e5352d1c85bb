"""The command `stoker`. `--version` answers before anything else is imported."""

import sys


def main() -> int:
    """Run the command line and return the exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from stoker import __version__

        print(f"stoker {__version__}")
        return 0
    from stoker.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
