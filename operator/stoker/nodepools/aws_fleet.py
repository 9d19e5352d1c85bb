"""Instances launched from a template, with no group around them: all of a launch at once, or none. Blocking calls."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from stoker.api.providers import AwsLaunchTemplate
from stoker.core.cluster.machines import Tier
from stoker.nodepools.aws_faults import fault_of_code
from stoker.nodepools.pool import LaunchError

#: Tags of the instances that we launch, beside the token: the pool, and the name of their type.
COMPUTE, INSTANCE_TYPE = "stoker.dev/compute", "stoker.dev/instance-type"


class Fleet:
    """cluster: name of the pool."""

    def __init__(self, ec2: Any, cluster: str) -> None:
        self._ec2 = ec2
        self._cluster = cluster

    def launch(
        self,
        template: AwsLaunchTemplate,
        tags: Mapping[str, str],
        *,
        machine: str | None,
        count: int,
        mine: int,
        tier: Tier,
        atomic: bool,
    ) -> None:
        """Launch what is missing of `count` instances, `mine` of which are there. Raises LaunchError if not all come.

        machine: EC2's instance type; None for the template's own.

        AWS keeps the answer to a client token: the same launch asked for again brings the same instances.
        """
        wanted = count - mine
        if wanted <= 0:
            return
        options: dict[str, Any] = {"SingleAvailabilityZone": True, "SingleInstanceType": True}
        if atomic:
            options["MinTargetCapacity"] = wanted
        if tier == "Spot":
            options["AllocationStrategy"] = "price-capacity-optimized"
        override = {"InstanceType": machine} if machine else {}
        answer = self._ec2.create_fleet(
            Type="instant",
            ClientToken=hashlib.sha256(f"{self._cluster} {sorted(tags.items())} {wanted}".encode()).hexdigest()[:40],
            LaunchTemplateConfigs=[
                {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": template.id, "Version": template.version},
                    "Overrides": [{"SubnetId": subnet, **override} for subnet in template.subnets],
                }
            ],
            TargetCapacitySpecification={
                "TotalTargetCapacity": wanted,
                "DefaultTargetCapacityType": "spot" if tier == "Spot" else "on-demand",
            },
            **{"SpotOptions" if tier == "Spot" else "OnDemandOptions": options},
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            ],
        )
        came = sum(len(one.get("InstanceIds", ())) for one in answer.get("Instances", ()))
        if came >= wanted:
            return
        error: Mapping[str, str] = next(iter(answer.get("Errors", ())), {})
        code = error.get("ErrorCode", "UnfulfillableCapacity")
        words = error.get("ErrorMessage", "EC2 launched fewer instances than asked for and said nothing of why")
        raise LaunchError(fault_of_code(code), code, words, mine + came)

    def terminate(self, ids: Collection[str]) -> None:
        if ids:
            self._ec2.terminate_instances(InstanceIds=sorted(ids))
