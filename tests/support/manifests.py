"""Bad manifests with what is to be said of them: `bad_manifests/NAME.yaml`.

Each file has two or three documents: what is expected, the manifest, and for a bad update the manifest after it. Expected:
`field` (dotted path), and `says`, a fragment that both checkers say, or `offline` and `server` where their words differ.
A text `@150000` stands for so many characters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "bad_manifests"


@dataclass(frozen=True)
class BadManifest:
    """A manifest (and, for an update, the one before it) that must be refused."""

    name: str
    field: str
    offline: str
    server: str
    document: dict[str, Any]
    former: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        return str(self.document["kind"])


def bad_manifests() -> Iterator[BadManifest]:
    """All of them, by name."""
    for path in sorted(FOLDER.glob("*.yaml")):
        expected, first, *second = (_written_out(one) for one in yaml.safe_load_all(path.read_text()))
        yield BadManifest(
            name=path.stem,
            field=expected["field"],
            offline=expected.get("says") or expected["offline"],
            server=expected.get("says") or expected["server"],
            document=second[0] if second else first,
            former=first if second else None,
        )


def training_job(name: str = "iris", **spec: Any) -> dict[str, Any]:
    """A TrainingJob manifest that is as it should be; `spec` adds members or replaces them."""
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "compute": "cpu",
            "command": {
                "command": "python train.py",
                "environment": {"spec": {"image": "registry.example.com/train:1"}},
            },
            **spec,
        },
    }


def _written_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _written_out(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_written_out(item) for item in value]
    if isinstance(value, str) and value.startswith("@") and value[1:].isdecimal():
        return "x" * int(value[1:])
    return value
