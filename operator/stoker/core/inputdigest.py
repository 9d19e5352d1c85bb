"""The digest of what lies under an input's path: the same listing has the same one, and another content another."""

import hashlib
import json
from collections.abc import Iterable

#: (key below the store, path below the input, bytes, the store's own tag of the content)
ListedFile = tuple[str, str, int, str]


def listing_digest(files: Iterable[ListedFile]) -> str:
    """`sha256:` and the hex digest over path, size and tag of each file, in the order of their paths. The tag is the store's
    ETag, which follows the content: nothing has to be read to know that it changed. A store that copies an object in other
    parts gives it another tag; then the digest says changed where the bytes are the same, never the other way round."""
    lines = sorted([path, size, tag.strip('"')] for _, path, size, tag in files)
    return "sha256:" + hashlib.sha256(json.dumps(lines, separators=(",", ":")).encode()).hexdigest()
