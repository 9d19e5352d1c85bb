"""What a job costs the API server, from its audit log: a budget that a change may not exceed unseen."""

import pytest

from tests.support.installed import Stoker, training_job
from tools.bench import throughput

pytestmark = pytest.mark.lab


def test_a_one_node_job_that_starts_at_once_costs_the_operator_three_writes(stoker: Stoker) -> None:
    """POST of the child, status Running, status at the end; counted as design says: job, children, Events about them."""
    stoker.apply(*throughput.manifests(nodes=1))
    stoker.lab.kubectl(
        "wait", "nodepools.lab.stoker.dev/bench", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=60s"
    )
    with throughput.sealing(stoker.lab, direct=False):
        for name in ("warm", "counted"):
            offset = stoker.lab.audit_log.stat().st_size
            stoker.apply(training_job(name, "true", image=stoker.lab.images["base"], compute="bench"))
            assert "Completed" == stoker.finished(name)["phase"]

    writes = throughput.writes_by_agent(stoker.lab.audit_log, offset)

    by_operator = {
        what.removeprefix("stoker-operator "): count
        for what, count in writes.items()
        if what.startswith("stoker-operator ") and throughput.counts_against_a_job(what)
    }
    assert {"create jobs": 1, "patch trainingjobs/status": 2} == by_operator
