"""External keeps the contract, and owns no node."""

import pytest

from stoker.nodepools.external import ExternalPool
from tests.component.nodepools.contract import Contract


class TestExternal(Contract):
    owns_nodes = False

    @pytest.fixture
    def pool(self) -> ExternalPool:
        return ExternalPool()
