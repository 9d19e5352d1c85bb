"""`stoker pull`: a run's outputs on this machine, whole, verified, and resumed where a former pull stopped."""

from pathlib import Path

import click

from stoker.cli.jobs import where
from stoker.cli.options import Common, common
from stoker.cli.output import human_bytes, plural
from stoker.errors import StokerError
from stoker.sdk import pulling
from stoker.sdk.runs import resolve


@click.command(
    epilog="\b\nExamples:\n  stoker pull @last\n  stoker pull iris-7f3k results\n  stoker pull iris-7f3k --logs"
)
@click.argument("run", metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--logs", "with_logs", is_flag=True, help="The logs too, below logs/.")
@click.option("--force", is_flag=True, help="Replace files that are there with another content.")
@where
@common
def pull(
    common: Common,
    run: str,
    folder: Path | None,
    with_logs: bool,
    force: bool,
    compute: str | None,
    storage: str | None,
) -> None:
    """Copy the outputs of RUN to FOLDER (else a folder of the run's name): rank 0 at the root, clashing names of other
    ranks under rank-<r>/. Every file is checked against the sha256 of its seal."""
    found = resolve(common, run, compute, storage)
    folder = folder or Path(found.name)
    wanted = pulling.wanted(found, with_logs)
    refused = {path: problem for path, _ in wanted if (problem := pulling.name_problem(path)) is not None}

    def began(path: str, size: int) -> None:
        common.output.note(f"{path}  {human_bytes(size)}")

    pulled = [
        pulling.pull_file(found, path, one, folder, force=force, began=began)
        for path, one in wanted
        if path not in refused
    ]
    size = sum(one["size"] for one in pulled)
    value = {"name": found.name, "folder": str(folder), "files": pulled}
    common.output.step("pulled", f"{plural(len(pulled), 'file')}, {human_bytes(size)}", str(folder))
    common.output.emit(value, lambda: None, [one["path"] for one in pulled])
    if refused:
        # Last, so that one name does not keep the other files away.
        told = "; ".join(f"{path!r}: {problem}" for path, problem in refused.items())
        raise StokerError(
            f"not pulled, for they cannot be written here: {told}; read them in the store, or pull on Linux"
        )
