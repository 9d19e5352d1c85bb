"""The digest of a listing."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.inputdigest import ListedFile, listing_digest

FILES = st.lists(
    st.tuples(st.text(), st.text(min_size=1), st.integers(0, 2**60), st.text()),
    unique_by=lambda one: one[1],
    max_size=6,
)


@given(FILES, st.randoms())
def test_the_order_of_a_listing_does_not_count(files: list[ListedFile], random: "st.Random") -> None:  # type: ignore[name-defined]
    shuffled = list(files)
    random.shuffle(shuffled)

    assert listing_digest(files) == listing_digest(shuffled)


@given(FILES.filter(bool), st.integers(1, 9))
def test_a_change_of_any_file_counts(files: list[ListedFile], more: int) -> None:
    key, path, size, tag = files[0]

    assert listing_digest(files) != listing_digest([(key, path, size + more, tag), *files[1:]])
    assert listing_digest(files) != listing_digest([(key, path, size, f"{tag}x"), *files[1:]])
    assert listing_digest(files) != listing_digest(files[1:])


def test_where_the_data_lies_does_not_count() -> None:
    assert listing_digest([("a/x", "x", 1, "t")]) == listing_digest([("b/x", "x", 1, '"t"')])
