"""The build log: one fact a line, at once."""

import sys
from typing import TextIO


class Log:
    """Lines look like `solve      12 packages  0.4 s`: the stage, what happened, how long it took."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def fact(self, stage: str, text: str, seconds: float | None = None) -> None:
        took = "" if seconds is None else f"  {seconds:.1f} s"
        # A message of several lines stays one fact: its other lines are indented below it.
        first, *rest = text.splitlines() or [""]
        print(
            f"{stage:<10} {first}{took}",
            *(f"{'':<10} {line}" for line in rest),
            sep="\n",
            file=self._stream,
            flush=True,
        )
