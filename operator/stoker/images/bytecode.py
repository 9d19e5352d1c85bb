"""Compiles modules for their places in an image. Runs by itself, in a fresh interpreter for each package.

Input, as JSON on stdin: {"archive": zip or "", "out": folder, "modules": [[member, path in the image], ...]}. Output: file
`<index>.pyc` for each module that compiles; what does not (Python 2, templates) is left out, as pip leaves it out.

A fresh interpreter, because `marshal` writes whether an object is shared with anything else that is alive: the same
module compiled in a busy process has other bytes. The bytecode says that its source is not to be looked at
(unchecked-hash, PEP 552): sources in an image do not change, and their times are all one.
"""

import importlib._bootstrap_external as loader
import importlib.util
import json
import sys
import warnings
import zipfile


def compile_all(archive: str, out: str, modules: "list[list[str]]") -> int:
    """Returns how many were compiled."""
    warnings.simplefilter("ignore")
    opened = zipfile.ZipFile(archive) if archive else None
    done = 0
    for index, (member, path) in enumerate(modules):
        if opened is not None:
            source = opened.read(member)
        else:
            with open(member, "rb") as file:
                source = file.read()
        try:
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError, UnicodeDecodeError, RecursionError, MemoryError):
            continue
        content = loader._code_to_hash_pyc(  # type: ignore[attr-defined]
            code, importlib.util.source_hash(source), False
        )
        with open(f"{out}/{index}.pyc", "wb") as file:
            file.write(content)
        done += 1
    return done


if __name__ == "__main__":
    job = json.load(sys.stdin)
    compile_all(job["archive"], job["out"], job["modules"])
