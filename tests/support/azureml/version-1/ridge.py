import pathlib
import sys

pathlib.Path("outputs/alpha.txt").write_text(" ".join(sys.argv[1:]) + "\n")
