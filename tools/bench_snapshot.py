"""What a snapshot of many small files costs: scan, hash, pack and upload; then the same folder again, unchanged.

    python tools/bench_snapshot.py                                    into a folder
    AWS_ENDPOINT_URL=... AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... \
        python tools/bench_snapshot.py --store s3://bucket/prefix     into an S3 store (STOKER_STORAGE_URL does it too)

Every line is a process of its own, as `stoker run` is one: its start counts. Ends with 1 when a bound does not hold.
"""

import argparse
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: The bounds (seconds) for 10,000 files.
FIRST, AGAIN = 5.0, 1.0

#: What one submit does with the folder. Times are in seconds.
SUBMIT = """
import json, os, sys, time
started = time.perf_counter()
from pathlib import Path
from stoker.storage import snapshots
from stoker.storage.objects import StoreOptions, open_store, run
from stoker.storage.snapshot import StatCache, hash_files, scan
loaded = time.perf_counter()
root = Path(sys.argv[1])
listing = scan(root)
scanned = time.perf_counter()
hashed = hash_files(listing, StatCache.open(root))
done = time.perf_counter()
pushed = run(snapshots.push(open_store(sys.argv[2], StoreOptions.from_env()), root, hashed))
end = time.perf_counter()
print(json.dumps({"import": loaded - started, "scan": scanned - loaded, "hash": done - scanned, "push": end - done,
                  "read": hashed.read, "zip": pushed.zip_bytes, "sent": pushed.sent, "digest": pushed.digest}))
"""


def make_tree(root: Path, count: int) -> int:
    """A tree like a large repository's: 100 files a folder, 0 to 8 KiB each, a tenth of them noise. Returns its bytes."""
    chance, total = random.Random(0), 0
    line = "".join(chance.choice("abcdefghij   ()=._") for _ in range(64)) + "\n"
    for number in range(count):
        folder = root / f"package_{number // 1000:02}" / f"part_{number // 100 % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        size = chance.randrange(8192)
        content = chance.randbytes(size) if number % 10 == 0 else (f"# {number}\n" + line * (size // 65)).encode()
        (folder / f"module_{number:05}.py").write_bytes(content)
        total += len(content)
    (root / ".gitignore").write_text("__pycache__/\n*.pyc\n/data/\n*.log\n!keep.log\nbuild/\ndist/\n.venv/\n**/tmp/*\n")
    return total


def submit(root: Path, store: str, cache: Path) -> dict[str, float]:
    started = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-c", SUBMIT, str(root), store],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "LOCALAPPDATA": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if answer.returncode:
        sys.exit(f"the submit failed:\n{answer.stderr}")
    found: dict[str, float] = json.loads(answer.stdout)
    return {"total": time.perf_counter() - started, **found}


def show(name: str, found: dict[str, float]) -> None:
    phases = "  ".join(f"{phase} {found[phase]:6.3f}" for phase in ("import", "scan", "hash", "push"))
    print(
        f"{name:<22} {found['total']:6.3f} s   {phases}   {found['read']:6} files read  {found['zip'] / 1e6:7.2f} MB sent",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument(
        "--store", default=os.environ.get("STOKER_STORAGE_URL", ""), help="where to; a folder if missing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as work:
        root, cache = Path(work, "tree"), Path(work, "cache")
        size = make_tree(root, options.files)
        base = options.store or Path(work, "store").as_uri()
        store = f"{base.rstrip('/')}/bench-{secrets.token_hex(4)}"
        print(
            f"{options.files} files, {size / 1e6:.1f} MB, into {store.rpartition('/')[0] if options.store else 'a folder'}"
        )
        first = submit(root, store, cache)
        show("first", first)
        soon = submit(root, store, cache)
        show("unchanged", soon)
        again = submit(root, store, cache)
        show("unchanged, once more", again)
        (root / "package_00" / "part_0" / "module_00000.py").write_text("changed = True\n")
        edited = submit(root, store, cache)
        show("one file changed", edited)
    held = {
        f"first submit {first['total']:.2f} s <= {FIRST} s": first["total"] <= FIRST,
        f"unchanged resubmit {max(soon['total'], again['total']):.2f} s <= {AGAIN} s": max(
            soon["total"], again["total"]
        )
        <= AGAIN,
        "unchanged: nothing sent": not soon["sent"] and not again["sent"],
        "one file changed: another digest, one file read": edited["digest"] != first["digest"] and edited["read"] == 1,
    }
    for claim, holds in held.items():
        print(f"{'ok  ' if holds else 'FAIL'}  {claim}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
