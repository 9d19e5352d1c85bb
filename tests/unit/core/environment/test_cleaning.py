"""What goes of a registry, what stays, and why: never what is needed, and in the end all that is not."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.environment.cleaning import (
    DAY,
    ENVIRONMENTS,
    PACKAGES,
    Manifest,
    Needs,
    Plan,
    Verdict,
    kind_of,
    plan,
    removal_order,
)

NOW = 1_800_000_000.0
GRACE = 30 * DAY
OLD, RECENT = NOW - 40 * DAY, NOW - 2 * DAY


def hexed(number: int) -> str:
    return f"{number:064x}"


def digest(number: int) -> str:
    return f"sha256:{hexed(number)}"


def tag(kind: str, number: int) -> str:
    letters = "abcdefghijklmnop"
    return f"{kind}-" + "".join(letters[int(one, 16)] for one in hexed(number)[-32:])


def image(number: int, *layers: int, more: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        ENVIRONMENTS, digest(number), (tag("lock", number), *more), {digest(one): 10 for one in layers},
        tuple(digest(one) for one in layers),
    )  # fmt: skip


def record(number: int, of: int, key: int | None = None) -> Manifest:
    keys = frozenset([hexed(number + 1000 if key is None else key)])
    return Manifest(ENVIRONMENTS, digest(number), (tag("spec", number),), {}, (), frozenset([digest(of)]), keys)


def steps(number: int, *layers: int) -> Manifest:
    return replace(image(number, *layers), tags=(tag("steps", number),))


def package(number: int, layer: int) -> Manifest:
    return Manifest(PACKAGES, digest(number), (tag("pkg", number),), {digest(layer): 10}, (digest(layer),))


def papers(number: int, *about: int) -> Manifest:
    return Manifest(ENVIRONMENTS, digest(number), tuple(f"sha256-{hexed(one)}" for one in about))


def old(*numbers: int) -> dict[str, float]:
    return {hexed(number): OLD for number in numbers}


def named(*numbers: int) -> Needs:
    return Needs({hexed(number): "TrainingJob team/iris" for number in numbers})


def gone(found: Plan) -> set[str]:
    return {one for verdict in found.going for one in verdict.digests}


def why(found: Plan, number: int) -> str:
    return next(one.reason for one in found.verdicts if digest(number) in one.digests)


# -- images and their records


def test_an_image_that_nothing_names_goes_with_its_records_after_the_grace() -> None:
    stock = [image(1, 11), record(2, of=1), record(3, of=1)]

    found = plan(stock, Needs(), old(1), GRACE, NOW)

    (verdict,) = found.going
    assert (digest(2), digest(3), digest(1)) == verdict.digests, "records first: nobody finds what is about to go"
    assert ("image", OLD, "nothing names it; last used 40.0 days ago") == (
        verdict.kind, verdict.last_used, verdict.reason,
    )  # fmt: skip
    assert 10 == found.size


@pytest.mark.parametrize(
    ("named_thing", "what"),
    [(1, "the image's digest"), (2, "the record's digest"), (1002, "the record's specKey")],
)
def test_one_name_keeps_an_image_and_all_that_leads_to_it(named_thing: int, what: str) -> None:
    stock = [image(1, 11), record(2, of=1), record(3, of=1)]

    found = plan(stock, named(named_thing), old(1, 2, 3), GRACE, NOW)

    assert set() == gone(found), what
    assert "TrainingJob team/iris names it" == why(found, 1)


def test_the_last_use_of_any_record_counts_for_the_image() -> None:
    stock = [image(1), record(2, of=1), record(3, of=1)]

    found = plan(stock, Needs(), {**old(1, 2), hexed(1003): RECENT}, GRACE, NOW)

    assert set() == gone(found)
    assert "nothing names it; last used 2.0 days ago, 30 days are kept" == why(found, 1)


def test_what_nobody_knows_a_last_use_of_is_counted_from_now() -> None:
    stock = [image(1), record(2, of=1)]

    first = plan(stock, Needs(), {}, GRACE, NOW)
    marked = dict.fromkeys((one.removeprefix("sha256:") for one in first.marks), NOW)

    assert (set(), (digest(1), digest(2))) == (gone(first), first.marks)
    assert set() == gone(plan(stock, Needs(), marked, GRACE, NOW + GRACE - 1))
    assert {digest(1), digest(2)} == gone(plan(stock, Needs(), marked, GRACE, NOW + GRACE))
    assert {digest(1), digest(2)} == gone(plan(stock, Needs(), {}, 0.0, NOW)), "no grace was asked for"


def test_a_digest_is_deleted_with_all_its_tags_so_one_foreign_tag_keeps_it() -> None:
    found = plan([image(1, more=("prod",)), record(2, of=1)], Needs(), old(1), GRACE, NOW)

    assert set() == gone(found)
    assert "its tag prod is none of Stoker's" == why(found, 1)


def test_a_record_of_an_image_that_is_gone_goes_too() -> None:
    assert {digest(2)} == gone(plan([record(2, of=1)], Needs(), old(2), GRACE, NOW))


def test_the_images_of_an_index_stay_and_go_with_it() -> None:
    index = Manifest(ENVIRONMENTS, digest(9), ("latest",), {}, (), frozenset([digest(1), digest(8)]))
    child = replace(image(8), tags=())
    ours = replace(index, tags=(tag("lock", 9),))

    assert set() == gone(plan([index, image(1), child], Needs(), old(1, 8, 9), GRACE, NOW))
    (verdict,) = plan([ours, child], Needs(), old(9), GRACE, NOW).going
    assert (digest(9), digest(8)) == verdict.digests


# -- what images rest on


def test_steps_and_packages_stay_while_an_image_that_stays_rests_on_them() -> None:
    stock = [image(1, 11, 12), image(2, 21, 12), steps(3, 11), package(4, 12), package(5, 21)]

    found = plan(stock, named(1), old(1, 2, 3, 4, 5), GRACE, NOW)

    assert {digest(2), digest(5)} == gone(found)
    assert f"{tag('lock', 1)} rests on it" == why(found, 4) == why(found, 3)


def test_steps_with_one_more_layer_than_an_image_are_none_of_its() -> None:
    assert {digest(3)} == gone(plan([image(1, 11), steps(3, 11, 12)], named(1), old(3), GRACE, NOW))


def test_what_an_image_rested_on_was_used_as_late_as_the_image() -> None:
    stock = [image(1, 11, 12), steps(3, 11), package(4, 12)]

    assert {digest(1), digest(3), digest(4)} == gone(plan(stock, Needs(), old(1), GRACE, NOW))


def test_what_images_rest_on_goes_after_them() -> None:
    found = plan([package(4, 12), steps(3, 11), papers(5, 1), image(1, 11, 12)], Needs(), old(1), GRACE, NOW)

    assert ["image", "papers", "steps", "package"] == [one.kind for one in removal_order(found.going)]


def test_only_bytes_that_nothing_else_has_are_freed() -> None:
    found = plan([image(1, 11, 12), image(2, 12, 13)], named(1), old(2), GRACE, NOW)

    assert 10 == found.size


# -- papers


def test_papers_go_with_what_they_are_about_and_no_sooner() -> None:
    stock = [image(1), image(2), papers(5, 1), papers(6, 2)]

    found = plan(stock, named(1), old(1, 2, 5, 6), GRACE, NOW)

    assert {digest(2), digest(6)} == gone(found)
    assert f"{tag('lock', 1)}, which it is about, stays" == why(found, 5)


def test_one_list_of_two_images_stays_for_the_one_that_stays() -> None:
    """Two empty lists have one digest, and deleting it would take both tags."""
    found = plan([image(1), image(2), papers(5, 1, 2)], named(1), old(1, 2, 5), GRACE, NOW)

    assert {digest(2)} == gone(found)


def test_papers_about_what_is_not_there_go_by_their_age() -> None:
    assert {digest(5)} == gone(plan([papers(5, 1)], Needs(), old(5), GRACE, NOW))
    assert (digest(5),) == plan([papers(5, 1)], Needs(), {}, GRACE, NOW).marks


# -- what is not known


def test_nothing_goes_while_somebody_may_be_about_to_use_it() -> None:
    found = plan([image(1, 11), image(2)], Needs(unsettled=("Job team/b builds an image",)), old(1), GRACE, NOW)

    assert ((), (), 0) == (found.going, found.marks, found.size)
    assert "Job team/b builds an image; what is used is known once that is over" == found.held


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((tag("lock", 1),), "image"), ((tag("spec", 1),), "record"), ((tag("pkg", 1),), "package"), ((), "part"),
        (("lock-1",), "other"), ((tag("lock", 1), "v1"), "other"), ((f"sha256-{hexed(1)}",), "papers"),
        ((f"sha256-{hexed(1)}.sig",), "papers"), (("sha256-12",), "other"),
    ],
)  # fmt: skip
def test_a_tag_is_known_by_its_whole_form(tags: tuple[str, ...], expected: str) -> None:
    assert expected == kind_of(tags)


# -- whatever there is


@dataclass(frozen=True)
class World:
    stock: tuple[Manifest, ...]
    needs: Needs
    used: dict[str, float]
    grace: float

    def planned(self, now: float) -> Plan:
        return plan(self.stock, self.needs, self.used, self.grace, now)

    def after(self, found: Plan, now: float) -> "World":
        """The registry once a plan was carried out."""
        left = gone(found)
        marks = dict.fromkeys((one.removeprefix("sha256:") for one in found.marks), now)
        return replace(
            self, stock=tuple(one for one in self.stock if one.digest not in left), used={**self.used, **marks}
        )


NUMBERS = st.integers(0, 7)
LAYERS = st.lists(st.integers(100, 106), max_size=4, unique=True)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    made: dict[str, Manifest] = {}
    for number in draw(st.lists(NUMBERS, unique=True)):
        layers = draw(LAYERS)
        kinds = [image(number, *layers), steps(number, *layers), image(number, *layers, more=("prod",))]
        kinds += [replace(image(number, *layers), tags=())]
        made[digest(number)] = draw(st.sampled_from(kinds))
    for number in draw(st.lists(st.integers(10, 17), unique=True)):
        made[digest(number)] = record(number, of=draw(NUMBERS))
    for number in draw(st.lists(st.integers(20, 24), unique=True)):
        made[digest(number)] = package(number, draw(st.integers(100, 106)))
    for number in draw(st.lists(st.integers(30, 33), unique=True)):
        made[digest(number)] = papers(number, *draw(st.lists(NUMBERS, min_size=1, max_size=2, unique=True)))
    for number in draw(st.lists(st.integers(40, 42), unique=True)):
        names = frozenset(digest(one) for one in draw(st.lists(NUMBERS, max_size=3, unique=True)))
        tags = draw(st.sampled_from([("latest",), (tag("lock", number),)]))
        made[digest(number)] = Manifest(ENVIRONMENTS, digest(number), tags, {}, (), names)
    everything = [*range(50), *range(1010, 1018)]
    words = draw(st.lists(st.sampled_from(everything), max_size=4))
    moments = st.floats(NOW - 90 * DAY, NOW + DAY)
    used = draw(st.dictionaries(st.sampled_from(everything).map(hexed), moments))
    grace = draw(st.sampled_from([0.0, DAY, GRACE]))
    return World(tuple(made.values()), Needs({hexed(one): f"run {one}" for one in words}), used, grace)


def words_of(one: Manifest) -> set[str]:
    return {one.digest.removeprefix("sha256:"), *one.keys}


@given(worlds())
def test_what_is_named_or_tagged_by_others_stays_with_all_that_it_needs(world: World) -> None:
    """Followed by hand, edge by edge, from each thing that somebody named."""
    left = {one.digest: one for one in world.after(world.planned(NOW), NOW).stock}
    before = {one.digest: one for one in world.stock}
    for one in world.stock:
        if words_of(one) & set(world.needs.named) or any(name in ("prod", "latest") for name in one.tags):
            assert one.digest in left
    for one in left.values():
        for name in one.names:
            assert name in left or name not in before, "a record, or an index, leads nowhere now"
    kept_layers = {layer for one in left.values() if one.repository == ENVIRONMENTS for layer in one.layers}
    for one in before.values():
        if one.repository == PACKAGES and set(one.layers) & kept_layers:
            assert one.digest in left, "the next build would have to make this layer anew"


@given(worlds())
def test_an_image_that_was_used_within_the_grace_stays(world: World) -> None:
    left = {one.digest for one in world.after(world.planned(NOW), NOW).stock}
    for one in world.stock:
        if any(NOW - world.used[word] < world.grace for word in words_of(one) & set(world.used)):
            assert one.digest in left or kind_of(one.tags) == "papers"


@given(worlds())
def test_a_second_run_removes_nothing(world: World) -> None:
    after = world.after(world.planned(NOW), NOW)

    assert () == after.planned(NOW).going
    assert () == after.after(after.planned(NOW), NOW).planned(NOW).marks


@given(worlds())
def test_in_the_end_only_what_is_needed_is_left(world: World) -> None:
    now = NOW
    for _ in range(4):
        world, now = world.after(world.planned(now), now), now + world.grace + DAY
    for verdict in world.planned(now).verdicts:
        assert not verdict.reason.startswith("nothing names it"), verdict


@given(worlds())
def test_nothing_goes_while_anything_is_unsettled(world: World) -> None:
    held = replace(world, needs=replace(world.needs, unsettled=("Job a/b builds an image",)))

    assert held.stock == held.after(held.planned(NOW), NOW).stock


@given(worlds())
def test_every_manifest_has_exactly_one_verdict(world: World) -> None:
    found: Iterable[Verdict] = world.planned(NOW).verdicts

    assert sorted(one.digest for one in world.stock) == sorted(one for verdict in found for one in verdict.digests)
