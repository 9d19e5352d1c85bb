from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.storage import layout
from stoker.storage.records import encode
from tests.support.serving import Served, job_record, serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server with one running job of one rank, `team/iris`."""
    served = Served(tmp_path)
    served.kube.run()
    with serving(served):
        keep(served, job_record())
        yield served


def keep(served: Served, record: dict[str, object]) -> None:
    """Put a job.json into its namespace's store."""
    path = served.store(str(record["namespace"])).path(layout.job_record(str(record["key"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(record))
