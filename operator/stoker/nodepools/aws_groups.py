"""Auto Scaling groups that exist: read, raised, protected, and lowered instance by instance. Blocking calls.

A group does not say which order an instance came by. So a launch writes its token on the group first, as a tag that
instances inherit, and then raises the desired capacity; one launch at a time has its instances under way.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from stoker.nodepools.aws_faults import code_of, fault_of_words
from stoker.nodepools.pool import LaunchError, PoolError

#: Tags of ours. TOKEN is inherited by instances; ORDERED says when the group was raised (seconds since the epoch).
TOKEN, ORDERED = "stoker.dev/token", "stoker.dev/ordered"
#: Tags by which other autoscalers know the groups that are theirs.
AUTOSCALER_TAG = "k8s.io/cluster-autoscaler/enabled"
KARPENTER_TAGS = ("karpenter.sh/nodepool", "karpenter.sh/nodeclaim", "karpenter.sh/managed-by")
EKS_TAG = "eks:nodegroup-name"
REBALANCE = "AZRebalance"
#: Instances that Auto Scaling takes in one call.
_AT_ONCE = 50
#: An activity with another status is under way.
_OVER = frozenset({"Failed", "Successful", "Cancelled"})
#: Activities looked through for the failures of a launch.
_ACTIVITIES = 50


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it was read."""

    name: str
    described: Mapping[str, Any]

    @property
    def tags(self) -> dict[str, str]:
        return {tag["Key"]: tag.get("Value", "") for tag in self.described.get("Tags", ())}

    @property
    def instances(self) -> list[Mapping[str, Any]]:
        """Those that count towards the desired capacity, be they on their way; none that leaves or waits in a warm pool."""
        return [
            one
            for one in self.described.get("Instances", ())
            if not one["LifecycleState"].startswith(("Terminat", "Warmed", "Detach", "Standby", "EnteringStandby"))
        ]

    @property
    def desired(self) -> int:
        return int(self.described["DesiredCapacity"])

    @property
    def outstanding(self) -> int:
        """Instances that are ordered and not there."""
        return max(0, self.desired - len(self.instances))

    @property
    def rebalances(self) -> bool:
        """Whether it may take an instance away to even out its zones."""
        suspended = {one["ProcessName"] for one in self.described.get("SuspendedProcesses", ())}
        return REBALANCE not in suspended and len(self.described.get("AvailabilityZones", ())) > 1

    @property
    def is_managed(self) -> bool:
        """Whether EKS manages it, which undoes what is changed on it."""
        return EKS_TAG in self.tags


class Groups:
    """only_autoscaler: cluster-autoscaler's tag means nothing here."""

    def __init__(self, autoscaling: Any, *, only_autoscaler: bool) -> None:
        self._autoscaling = autoscaling
        self._only_autoscaler = only_autoscaler

    def read(self, names: Sequence[str]) -> dict[str, Group]:
        """Groups by name. Raises PoolError for one that does not exist or is another autoscaler's."""
        if not names:
            return {}
        pages = self._autoscaling.get_paginator("describe_auto_scaling_groups")
        found = {
            one["AutoScalingGroupName"]: Group(one["AutoScalingGroupName"], one)
            for page in pages.paginate(AutoScalingGroupNames=list(names))
            for one in page["AutoScalingGroups"]
        }
        for name in names:
            if name not in found:
                raise PoolError("GroupNotFound", f"there is no Auto Scaling group {name!r} in the pool's region")
            self._check_owner(found[name])
        return found

    def _check_owner(self, group: Group) -> None:
        tags = group.tags
        if AUTOSCALER_TAG in tags and not self._only_autoscaler:
            raise PoolError(
                "OwnedByAnotherAutoscaler",
                f"the Auto Scaling group {group.name} has the tag {AUTOSCALER_TAG}: cluster-autoscaler may remove its "
                "instances under running jobs; take the tag off, or set provider.aws.onlyAutoscaler if none works on it",
            )
        if owner := next((tag for tag in KARPENTER_TAGS if tag in tags), None):
            raise PoolError(
                "OwnedByAnotherAutoscaler", f"the Auto Scaling group {group.name} is Karpenter's: tag {owner}"
            )

    def launch(self, group: Group, count: int, token: str, mine: int) -> None:
        """Order what a token lacks of `count` instances, `mine` of which are there. Raises LaunchError, also for what
        this token ordered before and does not come."""
        own = group.outstanding if group.tags.get(TOKEN) == token else 0
        others = group.outstanding - own
        if group.outstanding and (failure := self._failure(group)) is not None:
            # Desired and not to be had: ordered any longer, it might come when nobody wants it.
            self._set(group, len(group.instances))
            if own:
                raise LaunchError(*failure, mine)
            others = 0
        if others:
            return  # those of another launch are to come first, or theirs and ours could not be told apart
        if (wanted := count - mine - own) > 0:
            self._raise(group, len(group.instances) + own, wanted, token)

    def _raise(self, group: Group, base: int, wanted: int, token: str) -> None:
        largest = int(group.described["MaxSize"])
        if base + wanted > largest:
            raise LaunchError(
                "Config", "GroupMaxSize",
                f"the Auto Scaling group {group.name} may have {largest} instances and {base + wanted} are wanted: raise "
                "its maximum size, or lower the pool's maxInstances",
            )  # fmt: skip
        if group.rebalances and not group.is_managed:
            self._autoscaling.suspend_processes(AutoScalingGroupName=group.name, ScalingProcesses=[REBALANCE])
        self._autoscaling.create_or_update_tags(
            Tags=[
                _tag(group, TOKEN, token, inherited=True),
                _tag(group, ORDERED, str(int(time.time())), inherited=False),
            ]
        )
        self._set(group, base + wanted)

    def _set(self, group: Group, desired: int) -> None:
        self._autoscaling.set_desired_capacity(
            AutoScalingGroupName=group.name, DesiredCapacity=desired, HonorCooldown=False
        )

    def _failure(self, group: Group) -> tuple[Any, str, str] | None:
        """Why ordered instances do not come: fault, code, words. None while nothing has failed since the order, and while
        one more try is under way: a group of several zones tries one after the other."""
        ordered = float(group.tags.get(ORDERED) or 0)
        found = self._autoscaling.describe_scaling_activities(AutoScalingGroupName=group.name, MaxRecords=_ACTIVITIES)[
            "Activities"
        ]
        since = [activity for activity in found if activity["StartTime"].timestamp() >= ordered]
        failed = [activity for activity in since if activity["StatusCode"] == "Failed"]
        if not failed or any(activity["StatusCode"] not in _OVER for activity in since):
            return None
        words = failed[0].get("StatusMessage") or failed[0].get("Description", "")
        return (*fault_of_words(words), words)

    def terminate(self, ids: Collection[str]) -> None:
        """Have instances of groups terminated and the groups' desired capacity lowered by each."""
        for one in ids:
            try:
                self._autoscaling.terminate_instance_in_auto_scaling_group(
                    InstanceId=one, ShouldDecrementDesiredCapacity=True
                )
            except ClientError as error:
                words = str(error.response["Error"].get("Message", ""))
                if code_of(error) == "ValidationError" and "not found" in words.lower():
                    continue  # it went meanwhile
                if code_of(error) == "ValidationError" and "min" in words.lower():
                    raise PoolError(
                        "GroupMinSize", f"instance {one} cannot go: {words}; lower the group's minimum size to 0"
                    ) from error
                raise

    def protect(self, group: Group, held: Collection[str]) -> None:
        """Protect the instances that have jobs from the group's own scale-in, and no others."""
        if group.described.get("NewInstancesProtectedFromScaleIn"):
            return  # all of them are, and by somebody else's wish
        for protected in (True, False):
            changed = [
                one["InstanceId"]
                for one in group.instances
                if one["LifecycleState"] == "InService"
                and (one["InstanceId"] in held) is protected
                and bool(one.get("ProtectedFromScaleIn")) is not protected
            ]
            for start in range(0, len(changed), _AT_ONCE):
                self._autoscaling.set_instance_protection(
                    AutoScalingGroupName=group.name, InstanceIds=changed[start : start + _AT_ONCE],
                    ProtectedFromScaleIn=protected,
                )  # fmt: skip


def warnings(group: Group) -> list[tuple[str, str]]:
    """What about a group may end a job, though nothing is broken."""
    found = []
    if group.rebalances and group.is_managed:
        found.append(
            (
                "GroupRebalances",
                f"the Auto Scaling group {group.name} of an EKS node group evens out its zones and may end idle instances "
                "to do so; instances with jobs are protected. A node group with subnets of one zone does not",
            )
        )
    if group.described.get("CapacityRebalance"):
        found.append(
            (
                "GroupReplacesSpot",
                f"the Auto Scaling group {group.name} replaces Spot instances at risk, also under a job, before they are "
                "taken back: aws autoscaling update-auto-scaling-group --no-capacity-rebalance",
            )
        )
    return found


def _tag(group: Group, key: str, value: str, *, inherited: bool) -> dict[str, Any]:
    return {
        "ResourceId": group.name, "ResourceType": "auto-scaling-group", "Key": key, "Value": value,
        "PropagateAtLaunch": inherited,
    }  # fmt: skip
