"""`stoker env show`: one Environment, its images, and why there is none."""

from collections.abc import Mapping
from typing import Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import human_bytes


@click.command(
    epilog="\b\nExamples:\n  stoker env show torch\n  stoker env show torch --lock\n  stoker env show torch -o json"
)
@click.argument("name")
@click.option("--lock", is_flag=True, help="The exact packages of the image (lock.json) instead.")
@click.option("--platform", metavar="OS/ARCH", help="Of the lock; else the first.")
@common
def show(common: Common, name: str, lock: bool, platform: str | None) -> None:
    """Show the Environment NAME: its keys, its image on each platform, the last build."""
    from stoker.cli.env.environments import line_of, one, spec_key
    from stoker.errors import BadInput

    cluster = common.cluster()
    found = one(cluster, name)
    if lock:
        content = cluster.server().lock(spec_key(found, platform))
        if content is None:
            raise BadInput("--lock", f"no lock of {name} is stored", "it is kept where the image was built")
        print(content.decode())
        return
    status = found.get("status") or {}
    value = {
        **line_of(found), "base": status.get("base", ""), "build": status.get("build"),
        "buildLog": status.get("buildLog", ""), "spec": found["spec"],
    }  # fmt: skip
    common.output.emit(value, lambda: _print(value), [name])


def _print(value: Mapping[str, Any]) -> None:
    rows = [
        ("name", value["name"]), ("ready", f"{value['ready']} ({value['reason']})" if value["reason"] else value["ready"]),
        ("definitionKey", value["definitionKey"]), ("base", value["base"]), ("last used", value["lastUsed"]),
    ]  # fmt: skip
    for label, text in rows:
        if text:
            print(f"{label:<15} {text}")
    if value["ready"] != "True" and value["message"]:
        print(f"{'why':<15} {value['message']}")
    for image in value["images"]:
        print(f"\n{image['platform']}")
        facts = (
            ("image", image.get("image")), ("source", image.get("source")), ("specKey", image.get("specKey")),
            ("lockKey", image.get("lockKey")),
            ("size", human_bytes(image["sizeBytes"]) if image.get("sizeBytes") else ""),
            ("signed by", image.get("signedBy")),
            ("built in", f"{image['buildSeconds']} s" if image.get("buildSeconds") else ""),
        )  # fmt: skip
        for label, text in facts:
            if text:
                print(f"  {label:<13} {text}")
    if build := value["build"]:
        print(
            f"\nbuild           Job {build.get('name', '')}, try {build.get('tries', 1)}, started {build.get('startedAt', '')}"
        )
        print(f"{'log':<15} stoker env logs {value['name']}")
