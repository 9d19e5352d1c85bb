import pathlib

pathlib.Path("outputs/said.txt").write_text("said by say.py\n")
print("said")
