"""The copy of the log: what was read stays, whoever empties the log; and it goes on after a kill."""

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime.logcopy import LogCopy


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "std_log.txt"


@pytest.fixture
def copy(log: Path) -> Iterator[LogCopy]:
    one = copy_of(log)
    yield one
    one.close()


def copy_of(log: Path) -> LogCopy:
    return LogCopy(str(log.parent / "log.copy"), lambda: os.open(log, os.O_RDONLY))


def append(log: Path, content: bytes) -> None:
    with open(log, "ab") as file:
        file.write(content)


def whole(copy: LogCopy, log: Path) -> bytes:
    target = io.BytesIO()
    with open(log, "rb") as file:
        copy.write_whole(target, file)
    return target.getvalue()


def is_in(copy: LogCopy, log: Path) -> bool:
    with open(log, "rb") as file:
        return copy.is_in(file)


def note(after: int) -> bytes:
    how = rb"`> /dev/stdout` does that, `>> /dev/stdout` does not"
    start = rb"stoker: LogTruncated: the log was emptied \(%s\) after %d bytes, which are kept above; " % (how, after)
    return start + rb"what was written after them, in the \d+\.\d s before, is lost\n"


def test_a_log_that_grows_is_read_on(copy: LogCopy, log: Path) -> None:
    copy.catch_up()
    append(log, b"one\n")
    copy.catch_up()
    append(log, b"two\n")
    copy.catch_up()

    assert (b"one\ntwo\n", 8, False) == (copy.read(0, 100), copy.size, copy.emptied)
    assert is_in(copy, log)


@pytest.mark.parametrize(("offset", "most"), [(0, 3), (2, 5), (4, 4), (6, 100), (8, 1), (0, 100)])
def test_any_part_can_be_read_in_any_order(copy: LogCopy, log: Path, offset: int, most: int) -> None:
    for line in (b"one\n", b"two\n"):
        append(log, line)
        copy.catch_up()
    copy.read(0, 8)

    assert b"one\ntwo\n"[offset:][:most] == copy.read(offset, most)


def test_an_emptied_log_keeps_what_was_read_and_says_what_happened(copy: LogCopy, log: Path) -> None:
    append(log, b"before\n")
    copy.catch_up()
    log.write_bytes(b"after\n")
    copy.catch_up()

    assert re.fullmatch(b"before\n" + note(7) + b"after\n", copy.read(0, 1000))
    assert copy.read(0, 1000) == whole(copy, log)
    assert (True, False) == (copy.emptied, is_in(copy, log))


def test_the_line_about_it_stands_by_itself(copy: LogCopy, log: Path) -> None:
    append(log, b"50%")
    copy.catch_up()
    log.write_bytes(b"x")
    copy.catch_up()

    assert re.fullmatch(b"50%\n" + note(3) + b"x", copy.read(0, 1000))


def test_a_log_that_grew_over_its_old_size_at_once_is_noticed(copy: LogCopy, log: Path) -> None:
    append(log, b"before\n")
    copy.catch_up()
    log.write_bytes(b"another and longer\n")
    copy.catch_up()

    assert re.fullmatch(b"before\n" + note(7) + b"another and longer\n", copy.read(0, 1000))


def test_what_was_overwritten_after_it_was_read_follows_at_the_end(copy: LogCopy, log: Path) -> None:
    append(log, b"a" * 1000)
    copy.catch_up()
    append(log, b"b" * 1000)
    copy.catch_up()
    with open(log, "r+b") as file:
        file.seek(1500)
        file.write(b"c" * 500)

    assert not is_in(copy, log)
    said = b"\nstoker: LogTruncated: 1000 bytes of the log or fewer were overwritten after they had been read; they "
    assert b"a" * 1000 + b"b" * 1000 + said + b"follow as they are now\n" + b"b" * 500 + b"c" * 500 == whole(copy, log)


def test_a_log_that_is_removed_is_kept(copy: LogCopy, log: Path) -> None:
    append(log, b"before\n")
    copy.catch_up()
    log.unlink()
    copy.catch_up()
    copy.catch_up()

    assert copy.read(0, 1000).startswith(b"before\nstoker: LogTruncated: the log was emptied (its file was removed)")
    assert 1 == copy.read(0, 1000).count(b"LogTruncated")


@pytest.mark.parametrize("cut", [0, 1, 10, 25])
def test_a_copy_that_was_cut_off_goes_on_without_a_gap(log: Path, cut: int) -> None:
    first = copy_of(log)
    for line in (b"one\n", b"two\n"):
        append(log, line)
        first.catch_up()
    first.close()
    kept = log.parent / "log.copy"
    os.truncate(kept, kept.stat().st_size - min(cut, kept.stat().st_size))
    append(log, b"three\n")

    second = copy_of(log)
    second.catch_up()

    assert b"one\ntwo\nthree\n" == second.read(0, 100)
    assert is_in(second, log)
    second.close()


def test_a_log_that_was_emptied_while_nobody_read_is_noticed_afterwards(log: Path) -> None:
    first = copy_of(log)
    append(log, b"before\n")
    first.catch_up()
    first.close()
    log.write_bytes(b"after, and longer\n")

    second = copy_of(log)
    second.catch_up()

    assert re.fullmatch(b"before\n" + note(7) + b"after, and longer\n", second.read(0, 1000))
    second.close()


def test_an_ordinary_log_takes_little_room_and_none_takes_much_more_than_itself(copy: LogCopy, log: Path) -> None:
    append(log, b"".join(b"epoch %d loss 0.%d\n" % (n, n * 7919 % 9973) for n in range(100_000)))
    copy.catch_up()
    kept = log.parent / "log.copy"
    ordinary, size = kept.stat().st_size, log.stat().st_size
    append(log, os.urandom(size))
    copy.catch_up()

    assert ordinary < size / 3
    assert kept.stat().st_size - ordinary < size * 1.01


def test_without_room_for_the_copy_the_log_itself_still_does(tmp_path: Path, log: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    import resource
    import signal

    append(log, os.urandom(3_000_000))
    copy = copy_of(log)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, former[1]))
    try:
        with pytest.raises(OSError, match=r"File too large|no room"):
            copy.catch_up()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)

    assert log.read_bytes()[: copy.size] == copy.read(0, 10_000_000)
    assert is_in(copy, log)
    copy.catch_up()
    assert log.read_bytes() == copy.read(0, 10_000_000)
    copy.close()
