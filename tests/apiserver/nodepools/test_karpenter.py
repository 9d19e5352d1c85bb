"""Karpenter's provider keeps the contract over its own CRDs: what it writes, the API server takes."""

from collections.abc import Iterator

import pytest

from lab import Lab
from stoker.controller.pools import PlainObjects
from stoker.core.cluster.machines import LaunchFault
from stoker.nodepools.karpenter import CLAIMS
from tests.apiserver.nodepools.conftest import installed
from tests.component.nodepools.claims import OF_CLAIM, Karpenter
from tests.component.nodepools.contract import MachineContract, Provider
from tests.component.nodepools.test_karpenter import FAULTS, karpenter_pool

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def karpenter_crds(lab: Lab) -> Iterator[None]:
    yield from installed(lab, "sigs.k8s.io/karpenter", "pkg/apis/crds/karpenter.sh_nodeclaims.yaml")


@pytest.mark.usefixtures("karpenter_crds")
class TestKarpenterOnItsCrds(MachineContract):
    @pytest.fixture
    def provider(self, objects: PlainObjects, lab: Lab) -> Iterator[Provider]:
        karpenter = Karpenter(objects)

        async def refuse(fault: LaunchFault) -> None:
            karpenter.refused = fault

        async def only(count: int) -> None:
            karpenter.room = count

        async def stranger() -> None:
            body = {
                "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
                "metadata": {"name": "theirs", "labels": {"karpenter.sh/nodepool": "cpu"}},
                "spec": {
                    "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                    "requirements": [],
                },
            }  # fmt: skip
            await objects.create(CLAIMS, body)

        yield Provider(
            lambda name: karpenter_pool(objects, name), refuse, stranger, only, settle=karpenter.settle, faults=FAULTS
        )
        lab.kubectl("delete", "nodeclaims", "--all")
        lab.kubectl("delete", "nodes", "-l", OF_CLAIM)
