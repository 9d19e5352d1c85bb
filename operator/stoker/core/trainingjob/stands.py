"""Where a job stands, asked anew of what is seen: the first line whose question holds says where, and what to do next.

A stored phase would lag: a write may have been skipped, the operator may have been away. Only ends, attempts and
first-seen times are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stoker.api.trainingjob import Phase
from stoker.core.trainingjob import retry, steps
from stoker.core.trainingjob.seen import Seen
from stoker.core.trainingjob.steps import Step


@dataclass(frozen=True, slots=True)
class Stand:
    """A place in a job's life. phase: what people read. holds: whether a job is here. then: what to do here."""

    name: str
    phase: Phase
    holds: Callable[[Seen], bool]
    then: Callable[[Seen], Step]


def where(seen: Seen) -> Stand:
    """The stand of a job; every observation has one, for the last line always holds."""
    return next(stand for stand in STANDS if stand.holds(seen))


# -- The questions.


def finished(seen: Seen) -> bool:
    return seen.finished


def all_ranks_sealed_with_exit_0(seen: Seen) -> bool:
    return seen.attempt is not None and all(rank.complete for rank in seen.attempt.ranks)


def canceled_and_sealed(seen: Seen) -> bool:
    # Only what was recorded counts: a cancel that came after the end does not change how the run ended.
    return seen.attempt is not None and seen.attempt.sealed and seen.attempt.stopped == "Canceled"


def all_ranks_sealed_and_may_try_again(seen: Seen) -> bool:
    return seen.attempt is not None and seen.attempt.sealed and retry.verdict(seen, seen.attempt).again


def all_ranks_sealed(seen: Seen) -> bool:
    return seen.attempt is not None and seen.attempt.sealed


def name_ran_before(seen: Seen) -> bool:
    return seen.former_run is not None


def cancel_wanted_and_no_attempt(seen: Seen) -> bool:
    return seen.attempt is None and seen.cancel


def waited_too_long(seen: Seen) -> bool:
    return seen.attempt is None and seen.queue_timed_out


def cancel_wanted_and_attempt_open(seen: Seen) -> bool:
    return seen.attempt is not None and seen.stop == "Canceled"


def stop_wanted_and_attempt_open(seen: Seen) -> bool:
    return seen.attempt is not None and bool(seen.stop)


def all_ranks_ended(seen: Seen) -> bool:
    return seen.attempt is not None and all(rank.done for rank in seen.attempt.ranks)


def all_commands_ended(seen: Seen) -> bool:
    return seen.attempt is not None and all(rank.done or rank.saving for rank in seen.attempt.ranks)


def every_rank_started(seen: Seen) -> bool:
    return seen.attempt is not None and all(rank.done or rank.started is not None for rank in seen.attempt.ranks)


def attempt_open(seen: Seen) -> bool:
    return seen.attempt is not None


def suspended(seen: Seen) -> bool:
    return seen.attempt is None and seen.suspend


def held_in_queue(seen: Seen) -> bool:
    return seen.in_queue


def queue_missing(seen: Seen) -> bool:
    return seen.queue_missing_until is not None


def queue_named(seen: Seen) -> bool:
    return bool(seen.queue)


def backing_off(seen: Seen) -> bool:
    return seen.backing_off


def former_child_stands(seen: Seen) -> bool:
    return bool(seen.leftovers)


def only_the_user_can_mend(seen: Seen) -> bool:
    return seen.obstacle is not None


def not_prepared(seen: Seen) -> bool:
    return not seen.preparation.ready


def child_refused(seen: Seen) -> bool:
    return seen.post_refused is not None


def nodes_granted(seen: Seen) -> bool:
    return seen.granted


def ready_but_no_nodes(seen: Seen) -> bool:
    return True


STANDS: tuple[Stand, ...] = (
    Stand("Finished", "Completed", finished, then=steps.tidy),
    Stand("Completed", "Finalizing", all_ranks_sealed_with_exit_0, then=steps.finish),
    Stand("Canceled", "Canceling", canceled_and_sealed, then=steps.finish),
    Stand("Retrying", "Finalizing", all_ranks_sealed_and_may_try_again, then=steps.close_attempt),
    Stand("Failed", "Finalizing", all_ranks_sealed, then=steps.finish),
    Stand("RanBefore", "Finalizing", name_ran_before, then=steps.show_former_run),
    Stand("CanceledBeforeStart", "Canceling", cancel_wanted_and_no_attempt, then=steps.finish_unstarted),
    Stand("QueueTimedOut", "Finalizing", waited_too_long, then=steps.give_up),
    Stand("Canceling", "Canceling", cancel_wanted_and_attempt_open, then=steps.end_attempt),
    Stand("Stopping", "Finalizing", stop_wanted_and_attempt_open, then=steps.end_attempt),
    Stand("Sealing", "Finalizing", all_ranks_ended, then=steps.wait_for_seals),
    Stand("Saving", "Finalizing", all_commands_ended, then=steps.watch),
    Stand("Running", "Running", every_rank_started, then=steps.watch),
    Stand("InQueue", "Queued", held_in_queue, then=steps.answer_queue),
    Stand("Starting", "Starting", attempt_open, then=steps.watch),
    Stand("Suspended", "Suspended", suspended, then=steps.rest),
    Stand("BackingOff", "Queued", backing_off, then=steps.back_off),
    Stand("Clearing", "Queued", former_child_stands, then=steps.clear),
    Stand("NotQueued", "Pending", queue_missing, then=steps.wait_for_queue),
    Stand("Hindered", "Pending", only_the_user_can_mend, then=steps.prepare),
    Stand("Preparing", "Preparing", not_prepared, then=steps.prepare),
    Stand("Refused", "Pending", child_refused, then=steps.try_child),
    Stand("Queueing", "Queued", queue_named, then=steps.create_child),
    Stand("Granted", "Starting", nodes_granted, then=steps.create_child),
    Stand("Queued", "Queued", ready_but_no_nodes, then=steps.wait),
)
