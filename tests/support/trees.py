"""Small trees of files for tests of snapshots."""

from collections.abc import Mapping
from pathlib import Path


def tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Make files below a folder and return it. A path that ends in `/` is an empty folder."""
    root.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root
