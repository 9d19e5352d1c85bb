"""`stoker snapshot`: what of a folder is sent, what is not, and which line decided."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import human_bytes, plural

if TYPE_CHECKING:
    from stoker.sdk.prepare import Tree


@click.command(
    epilog="""\b
Examples:
  stoker snapshot .                          what goes, what does not, and why
  stoker snapshot . --explain data/big.bin   which line decides about one path
  stoker snapshot . -o json                  digest and files, for programs
  stoker snapshot . --push                   store it for a TrainingJob's code.snapshot
"""
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--explain", "path", metavar="PATH", help="Say which line decides about one path (relative to FOLDER).")
@click.option("--push", is_flag=True, help="Send it to the cluster's store and print the digest.")
@click.option("--compute-namespace", metavar="NAME", help="Namespace whose store --push sends to; else --namespace.")
@click.option("--ignore", "ignore", multiple=True, metavar="PATTERN", help="One more line behind the ignore file's.")
@click.option(
    "--allow-secret", "allow", multiple=True, metavar="PATTERN", help="Send a file that looks like a key all the same."
)
@click.option("-y", "--yes", is_flag=True, help="Push over 300 MB without asking.")
@common
def snapshot(
    common: Common, folder: Path, path: str | None, push: bool, compute_namespace: str | None,
    ignore: tuple[str, ...], allow: tuple[str, ...], yes: bool,
) -> None:  # fmt: skip
    """List what of FOLDER is sent, what is not, and which line decided.

    `.amlignore` in the folder's root decides, else `.gitignore` there; the last line that matches wins.
    """
    if path is not None:
        _explain(common, folder, path, ignore, allow)
        return
    from stoker.sdk.prepare import code_tree

    tree = code_tree(folder.resolve(), ignore, allow)
    for line in tree.listing.warnings:
        common.output.warn(line)
    if push:
        _push(common, tree, compute_namespace, yes)
        return
    common.output.emit(record(tree), lambda: _table(tree), [tree.digest])


def record(tree: "Tree") -> dict[str, Any]:
    """What `-o json` prints: {"digest", "bytes", "files", "skipped"}."""
    return {
        "digest": tree.digest,
        "bytes": tree.listing.total_bytes,
        "files": [
            {"path": one.path, "size": one.size, "sha256": one.sha256, "executable": one.executable}
            for one in tree.hashed.entries
        ],
        "skipped": [{"path": one.path, "rule": one.rule, "source": one.source} for one in tree.listing.skipped],
    }


def largest_lines(tree: "Tree", count: int = 10) -> list[str]:
    """The biggest files, one per line."""
    return [f"  {human_bytes(file.size):>9}  {file.path}" for file in tree.listing.largest(count)]


def _table(tree: "Tree") -> None:
    listing = tree.listing
    for file in listing.files:
        print(f"+ {human_bytes(file.size):>9}  {file.path}" + (f" -> {file.target}" if file.target else ""))
    for skipped in listing.skipped:
        print(f"- {'':>9}  {skipped.path:<40}  {skipped.rule}  ({skipped.source})")
    print(
        f"\n{plural(len(listing.files), 'file')}, {human_bytes(listing.total_bytes)}; {len(listing.skipped)} left out"
    )
    if len(listing.files) > 10:
        print("the ten largest:")
        print("\n".join(largest_lines(tree)))
    print(tree.digest)


def _explain(common: Common, folder: Path, path: str, ignore: tuple[str, ...], allow: tuple[str, ...]) -> None:
    from stoker.storage.listing import BUILT_IN, explain

    decision = explain(folder, path, extra_ignore=ignore, allow_secrets=allow)
    value = {
        "path": path, "sent": not decision.ignored, "rule": decision.line or None,
        "source": (decision.source or BUILT_IN) if decision.line else None,
    }  # fmt: skip
    if decision.line:
        words = f"{path} is {'left out' if decision.ignored else 'sent'}: {decision.line}  ({value['source']})"
    else:
        words = f"{path} is {'left out' if decision.ignored else 'sent: no line matches it'}"
    common.output.emit(value, lambda: print(words), [path])


def _push(common: Common, tree: "Tree", namespace: str | None, yes: bool) -> None:
    from stoker.cli.plan import confirm_size

    confirm_size(common.output, [("snapshot", tree)], yes)
    if namespace:
        common.namespace = namespace
    sent = common.cluster().server().push(tree)
    what = f"{plural(len(tree.listing.files), 'file')}, {human_bytes(tree.listing.total_bytes)}"
    common.output.step("snapshot", what, "sent" if sent else "unchanged, nothing sent")
    value = {"digest": tree.digest, "sent": sent, "bytes": tree.listing.total_bytes}
    common.output.emit(value, lambda: print(tree.digest), [tree.digest])
