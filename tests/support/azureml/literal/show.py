import pathlib
import sys

pathlib.Path("outputs/arguments.txt").write_text(" ".join(sys.argv[1:]) + "\n")
