"""Who leads: a table, and any interleaving of two replicas, a server, delays, lost answers and stops."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stoker.core.lease import LEASE_SECONDS, RENEW_SECONDS, Decision, Lease, Standing, decide

FREE = Lease()
OURS = Lease("me", "7")
THEIRS = Lease("they", "7")


@pytest.mark.parametrize(
    ("lease", "silent", "expected"),
    [
        (FREE, 0.0, Decision.TAKE),
        (Lease("", "7"), 0.0, Decision.TAKE),
        (OURS, 0.0, Decision.RENEW),
        (OURS, 1000.0, Decision.RENEW),
        (THEIRS, 0.0, Decision.WAIT),
        (THEIRS, 14.9, Decision.WAIT),
        (THEIRS, 15.0, Decision.TAKE),
        (replace(THEIRS, seconds=60.0), 15.0, Decision.WAIT),
        (replace(THEIRS, version=""), 14.9, Decision.WAIT),
        (replace(THEIRS, version=""), 15.0, Decision.TAKE),
    ],
)
def test_what_a_replica_does(lease: Lease, silent: float, expected: Decision) -> None:
    assert expected == decide(lease, "me", 100.0, 100.0 + silent)


def test_silence_is_counted_from_the_last_change_that_was_seen() -> None:
    standing = Standing("me").seen(THEIRS, 0.0).seen(THEIRS, 14.0).seen(replace(THEIRS, version="8"), 14.5)

    assert Decision.WAIT == standing.decision(29.4)
    assert Decision.TAKE == standing.decision(29.5)


@pytest.mark.parametrize("before", [THEIRS, OURS, Lease("", "7")])
def test_a_lease_that_was_deleted_is_waited_for_as_if_just_renewed(before: Lease) -> None:
    standing = Standing("me").seen(before, 0.0).seen(None, 14.0)

    assert Decision.WAIT == standing.decision(28.9)
    assert Decision.TAKE == standing.decision(29.0)


def test_a_leader_leads_until_the_deadline_of_what_it_sent() -> None:
    standing = Standing("me").wrote(OURS, sent_at=100.0, now=103.0)

    assert [True, False] == [standing.leads(109.9), standing.leads(110.0)]
    assert [False, True] == [standing.lost(109.9), standing.lost(110.0)]


@pytest.mark.parametrize("found", [THEIRS, None, Lease("", "8")])
def test_a_leader_that_finds_the_lease_not_its_own_has_lost_it_at_once(found: Lease | None) -> None:
    standing = Standing("me").wrote(OURS, 100.0, 100.0).seen(found, 101.0)

    assert (False, True) == (standing.leads(101.0), standing.lost(101.0))


def test_an_answer_that_comes_too_late_makes_nobody_a_leader_and_ends_nobody() -> None:
    standing = Standing("me").wrote(OURS, sent_at=100.0, now=110.0)

    assert (False, False) == (standing.leads(110.0), standing.lost(110.0))
    assert Decision.RENEW == standing.decision(110.0)


SOME_SECONDS = st.sampled_from(
    [2.0, LEASE_SECONDS - RENEW_SECONDS, RENEW_SECONDS - 0.01, LEASE_SECONDS - 0.01, LEASE_SECONDS]
)
ONE = st.sampled_from([0, 1])


class Replica:
    """One elector. asked: its request on the way, as (when sent, what it wants). answer: the reply on the way."""

    def __init__(self, name: str) -> None:
        self.standing = Standing(name)
        self.sent_at = 0.0
        self.wants: tuple[str, str, str] | None = None  # verb, version it rests on, holder to write
        self.answer: tuple[str, Lease | None] | None = None

    @property
    def idle(self) -> bool:
        return self.wants is None and self.answer is None


class TwoElectors(RuleBasedStateMachine):
    """Virtual time. A stopped process is one whose steps do not come while time goes by: no rule forces any step."""

    @initialize()
    def begin(self) -> None:
        self.now, self.versions = 0.0, 0
        self.lease: Lease | None = None
        self.replicas = [Replica("a"), Replica("b")]

    @rule(seconds=SOME_SECONDS)
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(number=ONE)
    def look(self, number: int) -> None:
        one = self.replicas[number]
        if one.idle:
            one.wants, one.sent_at = ("get", "", ""), self.now

    @rule(number=ONE)
    def write(self, number: int) -> None:
        one = self.replicas[number]
        if not one.idle or one.standing.lost(self.now):
            return
        if one.standing.decision(self.now) in (Decision.TAKE, Decision.RENEW):
            assert one.standing.observed is not None
            one.wants, one.sent_at = ("put", one.standing.observed.version, one.standing.me), self.now

    @rule(number=ONE)
    def a_whole_round_at_once(self, number: int) -> None:
        """What goes well in a moment, so that leaders are found among all the delays."""
        for step in (self.look, self.write):
            for move in (step, self.the_server_works, self.the_answer_comes):
                move(number)

    @rule(number=ONE)
    def a_look_at_once(self, number: int) -> None:
        for move in (self.look, self.the_server_works, self.the_answer_comes):
            move(number)

    @rule(number=ONE)
    def a_write_whose_answer_is_on_its_way(self, number: int) -> None:
        self.write(number)
        self.the_server_works(number)

    @rule(number=ONE)
    def release(self, number: int) -> None:
        one = self.replicas[number]
        if one.idle and one.standing.leads(self.now):
            assert one.standing.observed is not None
            one.wants = ("put", one.standing.observed.version, "")
            one.standing = one.standing.resigned()

    @rule(number=ONE)
    def the_server_works(self, number: int) -> None:
        one = self.replicas[number]
        if one.wants is None:
            return
        (verb, version, holder), one.wants = one.wants, None
        there = self.lease.version if self.lease is not None else ""
        if verb == "get":
            one.answer = ("got", self.lease)
        elif version != there:
            one.answer = ("conflict", None)
        else:
            self.versions += 1
            self.lease = Lease(holder, str(self.versions))
            one.answer = ("wrote", self.lease)

    @rule(number=ONE)
    def the_answer_comes(self, number: int) -> None:
        one = self.replicas[number]
        if one.answer is None:
            return
        (what, lease), one.answer = one.answer, None
        if what == "got":
            one.standing = one.standing.seen(lease, self.now)
        elif (
            what == "wrote"
            and lease is not None
            and lease.holder == one.standing.me
            and not one.standing.lost(self.now)
        ):
            one.standing = one.standing.wrote(lease, one.sent_at, self.now)

    @rule(number=ONE)
    def the_answer_is_lost(self, number: int) -> None:
        self.replicas[number].answer = None

    # Who starts anew while somebody has deleted the Lease cannot know of a leader: core.lease says so.
    @precondition(lambda self: self.lease is not None)
    @rule(number=ONE)
    def the_process_starts_anew(self, number: int) -> None:
        self.versions += 1
        self.replicas[number] = Replica(f"{'ab'[number]}{self.versions}")

    # As does who never saw it, for it was made and deleted between two looks.
    @precondition(lambda self: all(one.standing.observed and one.standing.observed.version for one in self.replicas))
    @rule()
    def somebody_deletes_the_lease(self) -> None:
        self.lease = None

    @invariant()
    def never_two_leaders(self) -> None:
        leaders = [one.standing.me for one in self.replicas if one.standing.leads(self.now)]
        assert len(leaders) <= 1, leaders


TwoElectors.TestCase.settings = settings(max_examples=400, stateful_step_count=30, deadline=None)
test_two_electors_never_both_lead = TwoElectors.TestCase
