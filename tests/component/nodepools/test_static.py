"""Static keeps the contract."""

import pytest

from stoker.api.providers import StaticProvider
from stoker.nodepools.static import StaticPool
from tests.component.nodepools.contract import Contract


class TestStatic(Contract):
    @pytest.fixture
    def pool(self) -> StaticPool:
        return StaticPool("cpu", StaticProvider(node_selector={"pool": "cpu"}))
