"""`stoker env build`: see an Environment through to its image."""

import time
from collections.abc import Mapping
from typing import Any

import click

from stoker.cli.options import Common, common
from stoker.errors import StokerError


class NotBuilt(StokerError):
    """The Environment has no image, and only a person can mend that."""

    exit_code = 1


@click.command(
    epilog="\b\nExamples:\n  stoker env build torch\n  stoker env build torch --again\n  stoker env build torch -o json"
)
@click.argument("name")
@click.option("--again", is_flag=True, help="Forget that builds of it failed, and try at once.")
@common
def build(common: Common, name: str, again: bool) -> None:
    """Wait until the Environment NAME has its image, and show the build's log. Ctrl-C leaves the build running.

    The operator builds by itself as soon as an Environment is there. Exit code 1 when only you can mend what keeps it from
    an image.
    """
    from stoker.api.names import ANNOTATION_AGAIN
    from stoker.cli.env.environments import line_of, one, path
    from stoker.core.times import rfc3339

    cluster = common.cluster()
    found, asked_at = one(cluster, name), time.time()
    if again:
        # Times in the cluster are whole seconds: what failed within this one counts as before.
        told = {"metadata": {"annotations": {ANNOTATION_AGAIN: rfc3339(asked_at + 1)}}}
        cluster.kube.patch(path(cluster, name), told)
    started = time.monotonic()
    found = _until_settled(common, name, former=found if again else None)
    line = line_of(found)
    if line["ready"] != "True":
        tried = any(image.get("specKey") for image in line["images"])
        more = f"\nits log: stoker env logs {name}; to try it anew: stoker env build {name} --again" if tried else ""
        raise NotBuilt(f"{line['reason']}: {line['message']}{more}")
    for image in line["images"]:
        how = f"{image['source']}" + (f" in {image['buildSeconds']} s" if image.get("buildSeconds") else "")
        common.output.step("image", image.get("image") or name, how, time.monotonic() - started)
    common.output.emit(line, lambda: None, [name])


def _until_settled(common: Common, name: str, *, former: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The Environment once it is Ready or Stalled; its log goes to the terminal meanwhile. former: as it was before it was
    asked for anew; None where it was not."""
    import sys

    from stoker.cli.env.buildlog import PAUSE_SECONDS, Following
    from stoker.cli.env.environments import condition, is_current, one

    cluster, log, shown = common.cluster(), None, ""
    before = condition(former, "Stalled").get("message") if former is not None else None
    # What was told before counts only once it has had time to change.
    patience = time.monotonic() + (15.0 if former is not None else 0.0)
    while True:
        found = one(cluster, name)
        ready, stalled = condition(found, "Ready"), condition(found, "Stalled")
        if is_current(found) and ready.get("status") == "True":
            return found
        news = stalled.get("message") != before or time.monotonic() >= patience
        if is_current(found) and stalled.get("status") == "True" and news:
            return found
        if ready.get("reason") and ready["reason"] != shown:
            shown = ready["reason"]
            common.output.step("build", shown, "")
        images = (found.get("status") or {}).get("images") or ()
        key = next((image["specKey"] for image in images if image.get("specKey")), "")
        if key and log is None:
            # What a former try said is not told again.
            log = Following(cluster.server(), cluster.server().build_log(key)[1] if former is not None else 0)
        piece = log.more(key) if log is not None and key and not common.output.quiet else b""
        if piece:
            sys.stderr.write(piece.decode("utf-8", "replace"))
            sys.stderr.flush()
        time.sleep(PAUSE_SECONDS)
