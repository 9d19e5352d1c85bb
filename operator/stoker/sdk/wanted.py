"""From the environment that a run names to what this machine has to have for it."""

import hashlib
import json
import re
from pathlib import Path

from stoker.local.environments.wanted import Wanted
from stoker.sdk.draft import EnvironmentAsked

#: A user and a password in a URL.
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


def wanted(asked: EnvironmentAsked | None, code: Path | None = None) -> Wanted:
    if asked is None:
        return Wanted()
    if asked.kind == "system":
        return Wanted(system=True)
    conda = asked.conda or {}
    told = [asked.image, sorted(asked.pip), [_CREDENTIALS.sub("//", line) for line in asked.options], conda]
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return Wanted(
        key,
        tuple(conda.get("channels", ())),
        tuple(one for one in conda.get("dependencies", ()) if isinstance(one, str)),
        asked.pip,
        (),
        asked.options,
    )
