"""`stoker env gc`: images of environments that nothing needs any more, out of the namespace's registry."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import confirm, human_bytes, plural, table
from stoker.errors import BadInput, StokerError

if TYPE_CHECKING:
    from stoker.core.environment.cleaning import Plan, Verdict
    from stoker.images.cleaning import Cleaned, Cleaning, Look
    from stoker.sdk.cleaning import Ground


@click.command(
    epilog="""\b
Examples:
  stoker env gc --dry-run                          what would go, what stays, and why
  stoker env gc --unused-days 7 -n team            images that nothing has used for a week
  stoker env gc --address localhost:5000           the registry is reached through a port-forward
"""
)
@click.option(
    "--unused-days",
    type=click.FloatRange(0),
    metavar="N",
    help="So long after its last use an image stays; else spec.retention.environmentDays of the Workspace, else 30.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
@click.option("--registry", metavar="HOST/PATH", help="Another registry than the namespace's own.")
@click.option(
    "--storage", metavar="URL", help="Where the namespace's runs are stored, if no Workspace or chart says it."
)
@click.option("--address", metavar="HOST:PORT", help="Where this machine reaches the registry, if not by its name.")
@click.option("--insecure", is_flag=True, help="The registry speaks http.")
@common
def gc(
    common: Common, unused_days: float | None, dry_run: bool, yes: bool, registry: str | None, storage: str | None,
    address: str | None, insecure: bool,
) -> None:  # fmt: skip
    """Remove images of environments that no job, Environment or stored run names and that nobody used for a month.

    With an image go its records and papers; layers of packages and images of docker steps go with the last image that rests
    on them. What jobs, Environments and pods of all namespaces name stays, so listing them must be allowed; while a job or a
    build is just beginning nothing goes. Credentials are those that `docker login` keeps, and the store's in the environment.
    The registry gives the bytes back when it collects its garbage.
    """
    try:
        from stoker.images import cleaning, errors
    except ModuleNotFoundError as error:
        fix = "pip install 'stoker[operator]'"
        raise BadInput("stoker env gc", f"{error.name} is not installed here", fix) from error
    from stoker.core.environment.cleaning import DAY, KEEP_DAYS
    from stoker.sdk.cleaning import ground

    place = ground(common.cluster(), registry, storage)
    days = unused_days if unused_days is not None else place.days if place.days is not None else KEEP_DAYS
    work = _Work(common, place, days * DAY, address, insecure or place.insecure)
    try:
        plan = work.run(_planned)[1]
        if common.output.is_table:
            _table(common, plan)
        if plan.held:
            common.output.warn(f"nothing is removed: {plan.held}")
        done = cleaning.Cleaned()
        if not dry_run and not plan.held:
            if plan.going:
                what = f"{_counted(plan.going)} of {place.url} for good"
                confirm(f"remove {what}?", yes, stopped="nothing was removed")
            done = work.run(lambda one: _carried_out(common, one, plan))
    except errors.RegistryError as error:
        fix = getattr(error, "fix", "")
        raise StokerError(f"{error}; {fix}" if fix else str(error)) from error
    if done.held:
        common.output.warn(f"the rest stays: {done.held}")
    if not common.output.is_table:
        value = _value(place, days, plan, done, dry_run)
        names = [digest for one in (plan.going if dry_run else done.removed) for digest in one.digests]
        common.output.emit(value, lambda: None, names)


class _Work:
    """Connections for one thing at a time: a person may take long to say yes."""

    def __init__(self, common: Common, place: "Ground", grace: float, address: str | None, insecure: bool) -> None:
        self._common, self._place, self._grace = common, place, grace
        self._address, self._insecure = address, insecure

    def run(self, what: Any) -> Any:
        return asyncio.run(self._run(what))

    async def _run(self, what: Any) -> Any:
        from stoker.images.cleaning import Cleaning
        from stoker.images.client import RegistryClient
        from stoker.images.connections import Connections
        from stoker.sdk.bases import USER_AGENT, keyring
        from stoker.sdk.cleaning import objects
        from stoker.storage.objects import open_store

        place, kube = self._place, self._common.cluster().kube
        host = place.url.partition("/")[0]
        connections = Connections(
            user_agent=USER_AGENT,
            insecure=frozenset([host] if self._insecure else []),
            addresses={host: self._address} if self._address else {},
        )
        try:
            cleaning = Cleaning(
                RegistryClient(connections, keyring()), place.url, lambda: asyncio.to_thread(objects, kube),
                {namespace: open_store(url) for namespace, url in place.stores}, self._grace,
            )  # fmt: skip
            return await what(cleaning)
        finally:
            await connections.close()


async def _planned(cleaning: "Cleaning") -> "tuple[Look, Plan]":
    look = await cleaning.look()
    return look, await cleaning.plan(look)


async def _carried_out(common: Common, cleaning: "Cleaning", agreed: "Plan") -> "Cleaned":
    """Do what was agreed to, as far as it still holds."""
    look, now = await _planned(cleaning)
    wanted = {(one.repository, one.digests) for one in agreed.going}
    verdicts = tuple(one for one in now.verdicts if not one.goes or (one.repository, one.digests) in wanted)
    if now.marks:
        await cleaning.mark(now)
        common.output.note(f"{plural(len(now.marks), 'last use')} not known before: counted from now")

    def told(one: "Verdict", why: str) -> None:
        if why:
            common.output.note(f"{_called(one)} stays after all: {why}")
        else:
            common.output.step("removed", _called(one), human_bytes(one.size))

    return await cleaning.remove(look, replace(now, verdicts=verdicts), told)


def _table(common: Common, plan: "Plan") -> None:
    """What goes, then what stays; of packages that stay only their number."""
    shown = [one for one in plan.verdicts if one.goes or one.kind not in ("package", "probe")]
    if not shown:
        common.output.note("the registry holds no images of environments")
        return
    rows = [
        [
            "remove" if one.goes else "keep", _called(one), one.digests[-1][:19], human_bytes(one.size),
            _when(one.last_used), one.reason,
        ]
        for one in shown
    ]  # fmt: skip
    table(rows, ["", "TAG", "DIGEST", "SIZE", "LAST USED", "WHY"])
    stays = [one for one in plan.verdicts if not one.goes]
    print(
        f"\n{_counted(plan.going) if plan.going else 'nothing'} to remove, {human_bytes(plan.size)} that nothing else has"
    )
    print(f"{_counted(stays) if stays else 'nothing'} to keep")


_NUMBERED = {
    "steps": ("image of steps", "images of steps"), "papers": ("list of papers", "lists of papers"),
    "other": ("other manifest", "other manifests"),
}  # fmt: skip


def _counted(verdicts: "Sequence[Verdict]") -> str:
    """`2 images, 14 packages`."""
    kinds: dict[str, int] = {}
    for one in verdicts:
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
    return ", ".join(
        f"{number} {_NUMBERED[kind][number != 1]}" if kind in _NUMBERED else plural(number, kind)
        for kind, number in kinds.items()
    )


def _called(one: "Verdict") -> str:
    return ", ".join(one.tags) or one.digests[-1][:19]


def _when(at: float | None) -> str:
    from stoker.core.times import rfc3339

    return rfc3339(at)[:10] if at is not None else "not known"


def _value(place: "Ground", days: float, plan: "Plan", done: "Cleaned", dry_run: bool) -> dict[str, Any]:
    """What `-o json` prints."""
    from stoker.core.times import rfc3339

    stays = {(one.repository, one.digests): why for one, why in done.stays}
    gone = {(one.repository, one.digests) for one in done.removed}

    def told(one: "Verdict") -> dict[str, Any]:
        key = (one.repository, one.digests)
        return {
            "kind": one.kind, "repository": f"{place.url}/{one.repository}", "tags": list(one.tags),
            "digests": list(one.digests), "papers": list(one.papers), "bytes": one.size,
            "lastUsed": rfc3339(one.last_used) if one.last_used is not None else None,
            "remove": one.goes and (dry_run or key in gone), "reason": stays.get(key, one.reason),
        }  # fmt: skip

    return {
        "registry": place.url,
        "unusedDays": days,
        "removed": bool(done.removed),
        "manifests": [told(one) for one in plan.verdicts],
        "bytes": plan.size,
        "held": plan.held or done.held,
    }
