"""A project's own settings: `.stoker/config.yaml` beside its code."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.errors import BadInput, did_you_mean
from stoker.sdk.draft import LOCAL

FOLDER = ".stoker"
FILE = "config.yaml"
_KEYS = frozenset({"compute", "context", "namespace", "storage"})


@dataclass(frozen=True)
class Settings:
    """compute: where runs go that do not say. context, namespace: of the kubeconfig. storage: URL for local runs."""

    compute: str | None = None
    context: str | None = None
    namespace: str | None = None
    storage: str | None = None


def read(folders: list[Path]) -> Settings:
    """The settings of the first of these folders that has any; raises BadInput for keys and values without a meaning."""
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        path = folder / FOLDER / FILE
        if path.is_file():
            return _parse(path)
    return Settings()


def _parse(path: Path) -> Settings:
    from stoker.core.yaml12 import parse

    source = Path(FOLDER, FILE).as_posix()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("", f"cannot be read: {error}", "make it readable UTF-8 text, or remove it", source) from None
    documents = parse(text, source)
    if not documents:
        return Settings()
    document = documents[0]
    if not isinstance(document.value, dict):
        raise BadInput("", "is not a mapping", f"keys: {', '.join(sorted(_KEYS))}", document.source)
    for key, value in document.value.items():
        if key not in _KEYS:
            raise BadInput(key, "unknown key", did_you_mean(key, _KEYS), document.where((key,)))
        if not isinstance(value, str):
            raise BadInput(key, f"{json.dumps(value)} is not text", "write one name", document.where((key,)))
    return Settings(**document.value)


def default_storage(here: Path) -> str:
    """Where local runs are kept without a word: `./.stoker`."""
    return (here.resolve() / FOLDER).as_uri()


def remember_last(here: Path, job: dict[str, Any]) -> None:
    """Note which run `@last` means in this folder. A folder that cannot be written is left alone: the newest run is
    found without the note."""
    folder = here / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        keep_out_of_git(folder)
        incoming = folder / f".last.{os.getpid()}"
        incoming.write_text(json.dumps(job) + "\n", encoding="utf-8")
        incoming.replace(folder / "last.json")
    except OSError:
        return


def last(here: Path) -> dict[str, Any] | None:
    """What `remember_last` noted, or None."""
    try:
        found = json.loads((here / FOLDER / "last.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    needed = ("key", "storage") if found.get("compute") == LOCAL else ("name",)
    # Another version's note, or somebody's edit: the newest run is found without it.
    return found if all(isinstance(found.get(one), str) for one in needed) else None


def forget_last(here: Path, key: str) -> None:
    """The run of this key is gone: `@last` means the newest of those that are left."""
    noted = last(here)
    # Of a cluster's run the note has the name alone; a key is the name, `-` and 8 digits.
    if noted is not None and (noted["key"] == key if noted.get("compute") == LOCAL else noted["name"] == key[:-9]):
        (here / FOLDER / "last.json").unlink(missing_ok=True)


def keep_out_of_git(folder: Path) -> None:
    """Runs do not belong into a repository; the settings beside them do."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n!.gitignore\n!config.yaml\n", encoding="utf-8")
