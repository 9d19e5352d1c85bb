"""The plan of a run: what will be sent, what it runs in, where, and how much. Printed before anything is sent."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stoker.cli.output import Output, confirm, human_bytes, plural
from stoker.cli.snapshot import largest_lines
from stoker.sdk.draft import EnvironmentAsked
from stoker.sdk.prepare import LARGE_BYTES, Prepared
from stoker.sdk.prose import tree_words

if TYPE_CHECKING:
    from stoker.sdk.prepare import Tree


def environment_words(asked: EnvironmentAsked | None, *, local: bool) -> tuple[str, str]:
    """What a run runs in, and the remark beside it."""
    if asked is None:
        return "this Python", "no environment named"
    if asked.kind == "system":
        return "this Python", asked.source
    if asked.kind == "name":
        return f"Environment/{asked.name}", asked.source
    count = len(asked.pip) + len(asked.conda_packages)
    packages = plural(count, "package") + (
        f", python {asked.python.removesuffix('.*').lstrip('=')}" if asked.python else ""
    )
    if local:
        return packages, f"{asked.source}; the image is for clusters" if asked.image else asked.source
    image = asked.image or "the workspace's image"
    more = [packages] * bool(count or asked.python) + [plural(len(asked.steps), "step")] * bool(asked.steps)
    return image, f"{asked.source}; with {' and '.join(more)}" if more else asked.source


def print_plan(output: Output, prepared: Prepared, where: str, detail: str, image: str = "") -> None:
    """The lines of the plan. where, detail: the compute and what is known of it. image: of a local run in a container."""
    draft = prepared.draft
    if prepared.code is not None:
        output.step("snapshot", tree_words(prepared.code), draft.code.name if draft.code else "")
        for line in prepared.code.listing.warnings:
            output.warn(line)
    elif draft.inline:
        output.step("snapshot", plural(len(draft.inline), "inline file"))
    elif draft.snapshot:
        output.step("snapshot", draft.snapshot[:19] + "…", "kept" if where == "local" else "pushed before")
    else:
        output.step("snapshot", "nothing is sent", f"{draft.source} names no code; this folder is code: .")
    for name, tree in prepared.inputs.items():
        output.step("input", f"{name}: {tree_words(tree)}", "sent as it is")
    words, remark = environment_words(draft.environment, local=where == "local" and not image)
    words = image or words
    output.step("environment", words, remark)
    nodes = draft.spec["command"].get("resources", {}).get("instanceCount", 1)
    output.step(
        "compute",
        where + (f", {plural(nodes, 'node')}" if where != "local" else (f", {nodes} ranks" if nodes > 1 else "")),
        detail,
    )
    output.step("command", draft.command.splitlines()[0])


def confirm_size(output: Output, trees: "Sequence[tuple[str, Tree]]", yes: bool) -> None:
    """Over 300 MB: list the ten largest files and ask. Raises BadInput for a no."""
    for what, tree in trees:
        size = tree.listing.total_bytes
        if size <= LARGE_BYTES:
            continue
        output.warn(f"{what} of {tree.root} has {human_bytes(size)}; the largest:")
        for line in largest_lines(tree):
            output.note(line)
        confirm(f"send {human_bytes(size)} (put what is not needed into .amlignore)?", yes)
