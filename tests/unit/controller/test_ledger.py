"""Who has which nodes: assignments live until their child is there, and are never lent to another attempt."""

from stoker.api.kube import BatchJob
from stoker.api.names import assigned
from stoker.controller.ledger import Ledger, cluster_key
from stoker.core.cluster.view import ClusterPlan, Demand, Wait
from stoker.core.plan import Plan
from stoker.core.trainingjob.view import Placement
from stoker.kube.store import Key, Store
from tests.support import build
from tests.support.kueue import queued

JOB = Key("TrainingJob", build.NAMESPACE, "iris")


class World:
    def __init__(self) -> None:
        self.store, self.woken, self.later = Store(), list[Key](), list[Key]()
        self.ledger = Ledger(self.store, self.woken.append, self.later.append)

    def want(self, attempt: int = 1) -> None:
        demand = Demand(build.UID, build.NAMESPACE, "iris", attempt, 1, build.T0)
        self.ledger.want(build.UID, "cpu", demand)

    def assign(self, attempt: int, *nodes: str) -> None:
        self.ledger.planned("cpu", ClusterPlan(Plan(), assignments={(build.UID, attempt): nodes}))

    def refuse(self, reason: str, message: str) -> None:
        self.ledger.planned("cpu", ClusterPlan(Plan(), waits={(build.UID, 1): Wait(reason, message, "")}))

    def see(self, child: BatchJob) -> None:
        self.store.put("Job", child)
        self.ledger.objects_changed(build.UID, "cpu")

    def placement(self) -> Placement | None:
        return self.ledger.placement(build.UID, self.store.of_job("Job", build.UID))


def test_a_wish_wakes_the_pool_and_an_assignment_wakes_the_job() -> None:
    world = World()
    world.want()
    world.assign(1, "n0")

    assert world.woken == [cluster_key("cpu"), JOB]
    assert world.placement() == Placement(granted=True, nodes=("n0",))


def test_saying_the_same_again_wakes_nobody() -> None:
    world = World()
    world.want()
    world.assign(1, "n0")
    world.woken.clear()
    world.want()
    world.assign(1, "n0")

    assert world.woken == []


def test_a_new_place_in_the_line_is_known_at_once_and_told_later() -> None:
    world = World()
    world.want()
    world.refuse("WaitingForTurn", "place 3 of 9")
    world.woken.clear()

    world.refuse("WaitingForTurn", "place 2 of 9")

    assert (world.woken, world.later) == ([], [JOB])
    assert world.placement() == Placement(reason="WaitingForTurn", message="place 2 of 9")


def test_what_was_spent_since_is_told_later() -> None:
    world = World()
    world.want()
    world.refuse("QuotaReached", "jobs of team have cost 10.00 of the 10.00")
    assert world.woken == [cluster_key("cpu"), JOB]

    world.refuse("QuotaReached", "jobs of team have cost 10.20 of the 10.00")

    assert (world.woken, world.later) == ([cluster_key("cpu"), JOB], [JOB])


def test_whoever_comes_out_of_the_line_is_woken_at_once() -> None:
    world = World()
    world.want()
    world.refuse("WaitingForTurn", "place 2 of 9")
    world.refuse("PoolFull", "waiting for 1 node")
    world.refuse("WaitingForTurn", "place 2 of 9")
    world.assign(1, "n0")

    assert (world.woken, world.later) == ([cluster_key("cpu"), JOB, JOB, JOB, JOB], [])


def test_assigned_nodes_are_held_before_and_after_the_child_is_there() -> None:
    world = World()
    world.want()
    world.assign(1, "n0")
    assert [(one.nodes, one.bound) for one in world.ledger.holdings("cpu")] == [(("n0",), False)]

    world.see(build.child(attempt=1, nodes=("n0",)))
    assert [(one.nodes, one.bound) for one in world.ledger.holdings("cpu")] == [(("n0",), True)]


def test_why_a_job_went_ahead_of_others_is_kept_until_its_child_tells_it() -> None:
    world = World()
    world.want()
    words = "it goes ahead of team/first"
    plan = ClusterPlan(Plan(), assignments={(build.UID, 1): ("n0",)}, ahead={(build.UID, 1): words})
    world.ledger.planned("cpu", plan)

    assert world.placement() == Placement(granted=True, nodes=("n0",), reason="Backfilled", message=words)
    assert [one.ahead for one in world.ledger.holdings("cpu")] == [words]


def test_nodes_of_one_attempt_are_not_lent_to_the_next() -> None:
    world = World()
    world.want()
    world.assign(1, "n0")
    world.see(build.child(attempt=1, nodes=("n0",)))
    world.want(attempt=2)

    assert world.placement() is None


def test_a_wish_that_ends_gives_its_nodes_back() -> None:
    world = World()
    world.want()
    world.assign(1, "n0")
    world.ledger.want(build.UID, "cpu", None)

    assert world.ledger.holdings("cpu") == ()
    assert world.placement() is None


def test_what_a_job_asks_for_is_read_from_it_and_remembered_while_its_pods_are_there() -> None:
    """A part of a shared node is still taken while the pods of a job that was deleted go."""
    world, requests = World(), (("cpu", "2"), ("memory", "1Gi"))
    world.see(build.child())
    unknown = [one.requests for one in world.ledger.holdings("cpu")]
    job = build.job(command={"resources": {"requests": dict(requests)}})
    world.store.put("TrainingJob", job)
    known = [one.requests for one in world.ledger.holdings("cpu")]
    world.store.remove("TrainingJob", job)

    assert (unknown, known) == ([()], [requests])
    assert [one.requests for one in world.ledger.holdings("cpu")] == [requests]


def test_what_is_labelled_for_a_run_in_a_queue_is_held_once_it_asks_for_no_more() -> None:
    """Labels come one by one: until all are there the pool's plan is what counts."""
    world = World()
    world.want()
    world.see(queued())
    world.store.put("Node", build.node("n7", labels={assigned(build.UID, 1): "true"}))
    world.ledger.objects_changed(build.UID, "cpu")
    assert world.ledger.holdings("cpu") == ()

    world.assign(1, "n0")
    assert [(("n0",), False)] == [(one.nodes, one.bound) for one in world.ledger.holdings("cpu")]
    assert Placement(granted=True, nodes=("n0",)) == world.placement()

    world.ledger.want(build.UID, "cpu", None)
    assert [(("n7",), True)] == [(one.nodes, one.bound) for one in world.ledger.holdings("cpu")]
