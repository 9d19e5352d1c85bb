"""The formats that pods, server, operator and client share."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.runtime import wire
from stoker.runtime.wire import Entry, ExitRecord, MissingFile, StoredFile, WireError

EMPTY = hashlib.sha256(b"").hexdigest()

names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=8
).filter(lambda name: wire.path_problem(name) is None)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Entries that may stand together in one manifest."""
    taken: set[str] = set()
    entries = []
    for path in draw(st.lists(paths, max_size=12)):
        folded = path.casefold()
        folders = {folded.rsplit("/", n)[0] for n in range(1, folded.count("/") + 1)}
        if folded in taken or folders & {entry.path.casefold() for entry in entries}:
            continue
        if any(entry.path.casefold().startswith(folded + "/") for entry in entries) or wire.path_problem(path):
            continue
        taken.add(folded)
        content = draw(st.binary(max_size=20))
        digest = hashlib.sha256(content).hexdigest()
        entries.append(Entry(path, len(content), digest, draw(st.booleans())))
    return entries


def link(path: str, target: str) -> Entry:
    return Entry(path, 0, hashlib.sha256(target.encode()).hexdigest(), False, target)


def file(path: str) -> Entry:
    return Entry(path, 0, EMPTY)


@given(trees())
def test_a_manifest_reads_back_as_it_was_written(entries: list[Entry]) -> None:
    ordered = tuple(sorted(entries, key=lambda entry: entry.path.encode()))

    assert ordered == wire.decode_manifest(wire.encode_manifest(entries))


@given(trees(), st.randoms())
def test_the_digest_does_not_depend_on_the_order(entries: list[Entry], chance: object) -> None:
    expected = wire.manifest_digest(wire.encode_manifest(entries))
    chance.shuffle(entries)  # type: ignore[attr-defined]

    assert expected == wire.manifest_digest(wire.encode_manifest(entries))


@given(trees(), st.data())
def test_no_other_bytes_read_as_a_manifest(entries: list[Entry], data: st.DataObject) -> None:
    """Whatever decodes is canonical: two different byte strings are never the same tree."""
    manifest = bytearray(wire.encode_manifest(entries))
    at = data.draw(st.integers(0, len(manifest) - 1))
    manifest[at] = data.draw(st.integers(0, 255))

    try:
        decoded = wire.decode_manifest(bytes(manifest))
    except WireError:
        return
    assert bytes(manifest) == wire.encode_manifest(decoded)


@given(st.binary(max_size=300))
def test_rubbish_is_an_error_and_nothing_else(rubbish: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode_manifest(wire.MANIFEST_HEADER + b"f " + rubbish)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/./b",
        "C:/x",
        "a\\b",
        "a\0b",
        "a\nb",
        "e\u0301",
        "a/",
        "\ud800",
    ],
)
def test_a_path_that_could_leave_the_tree_or_differ_elsewhere_is_refused(path: str) -> None:
    assert wire.path_problem(path)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([file("a"), file("A")], "only by case"),
        ([file("a"), file("A/b")], "also the folder of"),
        ([link("a", "b"), file("a/x")], "also the folder of"),
        ([link("a", "../x")], "leaves the tree"),
        ([link("a", "/etc/passwd")], "not a plain relative path"),
        ([link("d/up", ".."), link("out", "d/up/../..")], "leaves the tree"),
        ([link("d/up", ".."), link("out", "d/up/../x")], "through another link"),
        ([link("D/UP", ".."), link("out", "d/up/../x")], "through another link"),
        ([link("a", "b"), link("b", "a")], "circle"),
        ([Entry("a", 1, "0" * 63)], "64 hex"),
    ],
)
def test_a_hostile_tree_is_refused_by_name(entries: list[Entry], words: str) -> None:
    with pytest.raises(WireError, match=words):
        wire.decode_manifest(wire.encode_manifest(entries))


def test_a_double_entry_is_refused() -> None:
    line = wire.encode_manifest([file("a")])[len(wire.MANIFEST_HEADER) :]

    with pytest.raises(WireError, match="twice"):
        wire.decode_manifest(wire.MANIFEST_HEADER + line + line)


def test_links_inside_the_tree_are_kept() -> None:
    entries = (file("d/x"), link("latest", "d"), link("to", "latest/../d/x"))

    assert entries == wire.decode_manifest(wire.encode_manifest(entries))


def test_an_exit_record_reads_back_as_it_was_written() -> None:
    record = ExitRecord(137, 9, "LauncherLost", "gone", "2026-01-01T00:00:00Z", None, 12, "tail")

    assert record == wire.exit_record(record.document())


@pytest.mark.parametrize(
    "document", [None, [], {}, {"version": 2}, {"version": 1, "code": "0"}, {"version": 1, "code": True}]
)
def test_what_is_no_exit_record_is_refused(document: object) -> None:
    with pytest.raises(WireError):
        wire.exit_record(document)


def test_a_seal_is_complete_only_with_nothing_missing() -> None:
    kept, lost = StoredFile("outputs/a", 1, EMPTY), MissingFile("outputs/b", 2, "Refused: 403")

    complete = wire.seal_document("j-1", 1, 0, None, [kept], sealed_at="t", sealed_by="server")
    incomplete = wire.seal_document("j-1", 1, 0, None, [kept], [lost], sealed_at="t", sealed_by="server")

    assert (complete["complete"], complete["reason"]) == (True, None)
    assert (incomplete["complete"], incomplete["reason"]) == (False, "OutputsNotSaved")
    assert incomplete["message"] == "1 of 2 files are not saved: outputs/b (Refused: 403)"


def test_the_same_seal_at_another_time_is_the_same() -> None:
    one = wire.seal_document("j-1", 1, 0, {"code": 0}, [], sealed_at="t", sealed_by="server")

    assert wire.same_seal(one, {**one, "sealedAt": "u"})
    assert not wire.same_seal(one, {**one, "exit": {"code": 1}})


@pytest.mark.parametrize(
    "files",
    [
        {}, [1], [{"path": "../x", "size": 0, "sha256": EMPTY}], [{"path": "a", "size": -1, "sha256": EMPTY}],
        [{"path": "a", "size": True, "sha256": EMPTY}], [{"path": "a", "size": 0, "sha256": "x"}],
        [{"path": "a", "size": 0, "sha256": EMPTY}] * 2,
    ],
)  # fmt: skip
def test_a_file_list_that_could_mislead_is_refused(files: object) -> None:
    with pytest.raises(WireError):
        wire.stored_files(files)


@given(st.text(min_size=1, max_size=20).filter(lambda name: "/" not in name and name not in (".", "..")))
def test_any_name_that_a_script_makes_can_be_stored(name: str) -> None:
    raw = name.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")

    assert wire.path_problem("outputs/" + wire.storable_path(raw)) is None


def test_ordinary_names_are_stored_as_they_are() -> None:
    assert wire.storable_path("outputs/Modell ä (1)%.bin") == "outputs/Modell ä (1)%.bin"
