"""`stoker snapshot`: what goes, what does not, and why; the output that programs rely on."""

import hashlib

from tests.support.cli import Cli


def test_the_json_of_a_snapshot(cli: Cli) -> None:
    cli.write(train__py="print(1)\n", notes__txt="n", **{"__amlignore": "*.txt\n", "__env": "SECRET=1\n"})
    (cli.folder / "run.sh").write_text("#!/bin/sh\n")
    (cli.folder / "run.sh").chmod(0o755)
    (cli.folder / ".git").mkdir()

    found = cli.json("snapshot", ".")

    assert {"digest", "bytes", "files", "skipped"} == set(found)
    assert [".amlignore", "run.sh", "train.py"] == [one["path"] for one in found["files"]]
    assert {
        "path": "train.py",
        "size": 9,
        "sha256": hashlib.sha256(b"print(1)\n").hexdigest(),
        "executable": False,
    } == found["files"][2]
    assert found["files"][1]["executable"] is True
    skipped = {one["path"]: (one["rule"], one["source"]) for one in found["skipped"]}
    assert ("*.txt", ".amlignore:1") == skipped["notes.txt"]
    assert {".env", ".git/", "notes.txt"} == set(skipped)
    assert found["bytes"] == sum(one["size"] for one in found["files"])
    assert found["digest"] == cli.json("snapshot", ".")["digest"]
    assert found["digest"] == cli("snapshot", ".", "-o", "name").stdout.strip()


def test_explain_names_the_line(cli: Cli) -> None:
    cli.write(**{"__amlignore": "# data\n*.bin\n!keep.bin\n"})

    assert {"path": "a/x.bin", "sent": False, "rule": "*.bin", "source": ".amlignore:2"} == cli.json(
        "snapshot", ".", "--explain", "a/x.bin"
    )
    assert "keep.bin is sent: !keep.bin  (.amlignore:3)" == cli("snapshot", ".", "--explain", "keep.bin").stdout.strip()


def test_the_table_has_total_and_the_ten_largest(cli: Cli) -> None:
    for number in range(12):
        (cli.folder / f"f{number:02}").write_text("x" * number)

    shown = cli("snapshot", ".").stdout

    assert "12 files, 66 B; 0 left out" in shown
    assert "the ten largest:\n       11 B  f11\n" in shown


def test_a_link_out_of_the_folder_is_refused(cli: Cli) -> None:
    (cli.folder / "out").symlink_to("/etc/passwd")

    assert "out -> /etc/passwd" in cli("snapshot", ".", code=2).stderr
