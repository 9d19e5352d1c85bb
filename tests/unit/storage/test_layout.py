"""Names of objects are written and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage import layout
from stoker.storage.layout import LayoutError, RankKey

DIGEST = "sha256:" + "0a" * 32


def test_the_layout_is_what_design_says() -> None:
    assert f"snapshots/sha256/{'0a' * 32}.zip" == layout.snapshot_zip(DIGEST)
    assert f"snapshots/sha256/{'0a' * 32}.manifest" == layout.snapshot_manifest(DIGEST)
    assert layout.job_key("iris", "0123abcd-89ab-4cde-8f01-23456789abcd") == "iris-0123abcd"
    assert layout.job_record("iris-0123abcd") == "jobs/iris-0123abcd/job.json"
    assert layout.job_result("iris-0123abcd") == "jobs/iris-0123abcd/result.json"
    assert layout.by_name("iris") == "jobs/by-name/iris"
    assert layout.rank_prefix("iris-0123abcd", 1, 0) == "jobs/iris-0123abcd/attempts/1/0/"
    assert layout.seal("iris-0123abcd", 1, 0) == "jobs/iris-0123abcd/attempts/1/0/seal.json"
    assert layout.std_log("iris-0123abcd", 2, 13) == "jobs/iris-0123abcd/attempts/2/13/logs/std_log.txt"
    assert (
        layout.segment("iris-0123abcd", 1, 0, 1234) == "jobs/iris-0123abcd/attempts/1/0/logs/.segments/0000000000001234"
    )


@pytest.mark.parametrize(
    "digest", ["", "0a" * 32, "sha256:", "sha256:" + "0A" * 32, "sha512:" + "0a" * 32, DIGEST + "0", DIGEST + "\n"]
)
def test_what_is_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(LayoutError, match="sha256:<64 hex digits>"):
        layout.snapshot_zip(digest)


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("", "01234567"),
        ("A", "01234567"),
        ("a/b", "01234567"),
        ("-a", "01234567"),
        ("a", "0123"),
        ("a", "xxxxxxxx"),
        ("a\n", "01234567"),
    ],
)
def test_what_is_no_job_is_refused(name: str, uid: str) -> None:
    with pytest.raises(LayoutError):
        layout.job_key(name, uid)


@pytest.mark.parametrize(
    "key", ["by-name", "", "../x-01234567", "a/b-01234567", "a-0123456", "a-0123456G", "-01234567"]
)
def test_what_is_no_key_is_refused(key: str) -> None:
    assert not layout.is_job_key(key)
    with pytest.raises(LayoutError):
        layout.job_record(key)


@pytest.mark.parametrize(("attempt", "rank"), [(0, 0), (-1, 0), (1, -1)])
def test_attempts_count_from_one_and_ranks_from_zero(attempt: int, rank: int) -> None:
    with pytest.raises(LayoutError, match="attempts count from 1"):
        layout.rank_prefix("a-01234567", attempt, rank)


names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
uids = st.uuids().map(str)


@given(
    name=names,
    uid=uids,
    attempt=st.integers(1, 10**6),
    rank=st.integers(0, 10**6),
    path=st.text(min_size=1, max_size=20),
)
def test_a_key_says_where_it_lies(name: str, uid: str, attempt: int, rank: int, path: str) -> None:
    key = layout.job_key(name, uid)

    assert (name, uid[:8]) == layout.split_job_key(key)
    assert RankKey(key, attempt, rank, path) == layout.parse_rank_key(layout.rank_prefix(key, attempt, rank) + path)


@given(offset=st.integers(0, 10**16 - 1))
def test_a_piece_of_the_log_says_its_offset(offset: int) -> None:
    path = layout.SEGMENTS + layout.segment_name(offset)

    assert offset == layout.segment_offset(path)
    assert layout.rank_path_problem(path) is None


@given(offsets=st.lists(st.integers(0, 10**16 - 1)))
def test_pieces_of_the_log_sort_by_their_offsets(offsets: list[int]) -> None:
    assert [layout.segment_name(one) for one in sorted(offsets)] == sorted(layout.segment_name(one) for one in offsets)


@pytest.mark.parametrize(
    "key",
    ["jobs/a-01234567/job.json", "jobs/a-01234567/attempts/01/0/x", "jobs/a-01234567/attempts/0/0/x", "jobs/a-01234567/attempts/1/00/x",
     "jobs/a-01234567/attempts/1/0/", "jobs/by-name/x", "x/jobs/a-01234567/attempts/1/0/x"],
)  # fmt: skip
def test_other_keys_are_no_ranks(key: str) -> None:
    assert layout.parse_rank_key(key) is None


@pytest.mark.parametrize(
    "path", ["outputs/model.pkl", "logs/std_log.txt", "logs/my own/été.log", "metrics/x.jsonl", "outputs/.hidden/..x"]
)
def test_a_rank_writes_its_three_folders(path: str) -> None:
    assert layout.rank_path_problem(path) is None


@pytest.mark.parametrize(
    "path",
    ["", "seal.json", "outputs", "outputs/", "/outputs/x", "outputs/../seal.json", "outputs//x", "outputs/./x", "x/outputs/y", "Outputs/x",
     "outputs/a\\b", "outputs/a\nb", "outputs/\udcff", "outputs/" + "x" * 1100, "logs/.segments/1", "logs/.segments/x/y"],
)  # fmt: skip
def test_a_rank_writes_nothing_else(path: str) -> None:
    assert layout.rank_path_problem(path)
