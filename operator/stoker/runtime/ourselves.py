"""How a part of us starts another part, with the Python that runs us."""

from __future__ import annotations

import os
import sys
from typing import List

_BY_PATH = "import sys; sys.path.insert(0, %r); from stoker.runtime.__main__ import main; sys.exit(main(sys.argv[1:]))"


def words(part: str, *arguments: str) -> List[str]:
    """A program and its arguments. Nothing in the user's folder or variables stands in for our modules, or for Python's."""
    above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if os.path.isfile(above):  # the agent in one file
        return [sys.executable, "-I", above, part, *arguments]
    return [sys.executable, "-I", "-S", "-c", _BY_PATH % above, part, *arguments]
