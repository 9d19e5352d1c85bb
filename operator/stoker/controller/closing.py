"""Sealing a rank that was lost: what it left is listed, and nothing more of it is taken in.

The server seals a rank that ends well; of two who seal, the first stands.
"""

import hashlib

from stoker.core.plan import CloseRank
from stoker.core.times import rfc3339
from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore, Stored

#: A larger file is listed without a checksum: reading it back would hold up the next attempt.
MOST_HASHED_BYTES = 64 << 20


async def close_rank(store: ObjectStore, question: CloseRank, now: float) -> records.SealRecord:
    """Seal the rank as incomplete unless it has a seal; returns the seal that stands. Raises StoreError."""
    key, attempt, rank = question.key, question.attempt, question.rank
    standing = await records.read_seal(store, key, attempt, rank)
    if standing is not None:
        await records.drop_unfinished(store, key, attempt, rank)
        return standing
    seal: records.SealRecord = {
        "version": records.VERSION,
        "job": key,
        "attempt": attempt,
        "rank": rank,
        "complete": False,
        "reason": question.reason,
        "message": question.message,
        "exit": None,
        "files": await _left(store, layout.rank_prefix(key, attempt, rank)),
        "missing": [],
        "sealedAt": rfc3339(now),
        "sealedBy": "operator",
    }
    if await records.write_seal(store, seal):
        await records.drop_unfinished(store, key, attempt, rank)
        return seal
    return await records.read_seal(store, key, attempt, rank) or seal


async def _left(store: ObjectStore, prefix: str) -> list[records.SealedFile]:
    """What the rank's folders hold. The log's pieces are not files of the run: the log is read through them."""
    found: list[records.SealedFile] = []
    async for stored in store.list(prefix):
        path = stored.key[len(prefix) :]
        if layout.rank_path_problem(path) is None and not path.startswith(layout.SEGMENTS):
            found.append({"path": path, "size": stored.size, "sha256": await _sha256(store, stored)})
    return found


async def _sha256(store: ObjectStore, stored: Stored) -> str:
    if stored.size > MOST_HASHED_BYTES:
        return ""
    digest = hashlib.sha256()
    async for piece in store.stream(stored.key):
        digest.update(piece)
    return digest.hexdigest()
