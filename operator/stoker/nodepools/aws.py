"""AWS: EC2 instances of Auto Scaling groups and EKS node groups that exist, or launched from a template.

Nothing of AWS's is made by us but instances, and tags on what is there. boto3 blocks, so it works in threads.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import Node
from stoker.api.names import LABEL_COMPUTE
from stoker.api.providers import AwsProvider, AwsSource
from stoker.core.cluster.machines import Capabilities, LaunchFault, Machine, MachineState, Tier
from stoker.nodepools import aws_faults, aws_groups
from stoker.nodepools.aws_fleet import COMPUTE, INSTANCE_TYPE, Fleet
from stoker.nodepools.aws_groups import TOKEN, Group, Groups
from stoker.nodepools.aws_notices import PREEMPTED, Notices
from stoker.nodepools.pool import LaunchError, PoolError
from stoker.storage.threads import Threads

T = TypeVar("T")
#: Set by EKS in pods whose ServiceAccount has an IAM role: IRSA and Pod Identity.
_SERVICE_ACCOUNT = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
#: Few calls, and each pool makes them one after the other.
_THREADS = Threads(8)
#: Instance ids in one filter of DescribeInstances.
_AT_ONCE = 200
#: EC2 goes on answering for what is long gone.
_GONE = frozenset({"terminated"})


@dataclass(frozen=True)
class Clients:
    """boto3's clients for one region. Credentials come as boto3 finds them; those that the pod's ServiceAccount has at AWS
    come before keys in the environment, which are the object store's."""

    autoscaling: Any
    ec2: Any
    eks: Any
    sqs: Any

    @classmethod
    def of(cls, region: str) -> "Clients":
        config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
        core = botocore.session.get_session()
        if any(name in os.environ for name in _SERVICE_ACCOUNT):
            core.get_component("credential_provider").remove("env")
        session = boto3.session.Session(region_name=region, botocore_session=core)
        return cls(*(session.client(name, config=config) for name in ("autoscaling", "ec2", "eks", "sqs")))


@dataclass(frozen=True)
class _Seen:
    """The pool at AWS at a moment: groups by the name of the type that they are the source of, and instances by id."""

    groups: Mapping[str, Group]
    instances: Mapping[str, Mapping[str, Any]]

    @property
    def members(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Instances of groups by id: the name of their type, and what the group says of them."""
        return {
            one["InstanceId"]: (kind, one)
            for kind, group in self.groups.items()
            for one in group.described.get("Instances", ())
        }

    def of_token(self, token: str) -> int:
        """How many instances came by a token and are to stay."""
        leaving = {id for id, (_, member) in self.members.items() if _leaves(member)}
        return sum(
            _tags(one).get(TOKEN) == token and _stays(one) and id not in leaving for id, one in self.instances.items()
        )


class AwsPool:
    def __init__(self, cluster: ComputeCluster, provider: AwsProvider, clients: Callable[[], Clients]) -> None:
        self._name = cluster.metadata.name
        self._ec2_types = {kind.name: kind.machine for kind in cluster.spec.instance_types}
        self._sources = {source.instance_type: source for source in provider.sources}
        self._provider = provider
        self._make_clients = clients
        self._clients: Clients | None = None
        self._group_names: dict[str, str] = {}
        #: Instances that the last list had: their Nodes are ours before they have our label.
        self._ids: frozenset[str] = frozenset()

    def owns(self, node: Node) -> bool:
        pool = node.metadata.labels.get(LABEL_COMPUTE)
        if pool is not None:
            return pool == self._name
        return node.spec.provider_id.rpartition("/")[2] in self._ids

    async def describe(self) -> Capabilities:
        groups = (await self._ask(self._read_groups)).values()
        return Capabilities(
            atomic=all(source.launch_template is not None for source in self._sources.values()),
            spot_notice=self._provider.interruption_queue is not None,
            warnings=tuple(warning for group in groups for warning in aws_groups.warnings(group)),
        )

    async def list(self) -> tuple[Machine, ...]:
        return await self._ask(self._list)

    async def launch(self, *, count: int, instance_type: str, tier: Tier, zone: str, atomic: bool, token: str) -> None:
        source = self._sources.get(instance_type)
        if source is None:
            known = ", ".join(self._sources)
            raise LaunchError(
                "Config", "NoSource", f"provider.aws.sources has none for type {instance_type!r}: {known}"
            )
        try:
            await self._ask(lambda: self._launch(source, count, tier, zone, atomic, token))
        except LaunchError:
            raise
        except PoolError as error:
            raise LaunchError(self.classify(error), error.reason, error.message) from error

    async def terminate(self, ids: Collection[str], *, token: str) -> None:
        await self._ask(lambda: self._terminate(frozenset(ids)))

    async def hold(self, ids: Collection[str]) -> None:
        await self._ask(lambda: self._hold(frozenset(ids)))

    def classify(self, error: Exception) -> LaunchFault:
        return aws_faults.fault_of(error)

    # -- in a thread

    async def _ask(self, work: Callable[[], T]) -> T:
        try:
            return await _THREADS.call(work)
        except (ClientError, BotoCoreError) as error:
            raise aws_faults.pool_error(error) from error

    @property
    def _aws(self) -> Clients:
        # Made at first use, in a thread: boto3 reads its models from disk.
        if self._clients is None:
            self._clients = self._make_clients()
        return self._clients

    @property
    def _groups(self) -> Groups:
        return Groups(self._aws.autoscaling, only_autoscaler=self._provider.only_autoscaler)

    def _read_groups(self) -> dict[str, Group]:
        """The groups by the name of the type that they are the source of."""
        names = {kind: self._group_of(source) for kind, source in self._sources.items() if not source.launch_template}
        found = self._groups.read(sorted(set(names.values())))
        return {kind: found[name] for kind, name in names.items()}

    def _group_of(self, source: AwsSource) -> str:
        """The name of a source's group; that of a node group is asked for once."""
        if source.auto_scaling_group is not None:
            return source.auto_scaling_group
        block, kind = source.nodegroup, source.instance_type
        assert block is not None, "a source has a group, a node group or a template"
        if kind not in self._group_names:
            answer = self._aws.eks.describe_nodegroup(clusterName=block.cluster, nodegroupName=block.name)
            groups = answer["nodegroup"].get("resources", {}).get("autoScalingGroups", [])
            if not groups:
                raise PoolError(
                    "GroupNotFound", f"node group {block.cluster}/{block.name} has no Auto Scaling group yet"
                )
            self._group_names[kind] = groups[0]["name"]
        return self._group_names[kind]

    def _see(self) -> _Seen:
        groups = self._read_groups()
        ids = sorted(one["InstanceId"] for group in groups.values() for one in group.described.get("Instances", ()))
        filters = [
            [{"Name": "instance-id", "Values": ids[start : start + _AT_ONCE]}] for start in range(0, len(ids), _AT_ONCE)
        ]
        if any(source.launch_template for source in self._sources.values()):
            filters.append([{"Name": f"tag:{COMPUTE}", "Values": [self._name]}])
        pages = self._aws.ec2.get_paginator("describe_instances")
        instances = {
            one["InstanceId"]: one
            for which in filters
            for page in pages.paginate(Filters=which)
            for reservation in page["Reservations"]
            for one in reservation["Instances"]
            if one["State"]["Name"] not in _GONE
        }
        return _Seen(groups, instances)

    def _list(self) -> tuple[Machine, ...]:
        seen = self._see()
        told: frozenset[str] = frozenset()
        if self._provider.interruption_queue is not None:
            notices = Notices(self._aws.sqs, self._aws.ec2, self._provider.interruption_queue)
            told = notices.take(seen.instances.keys())
        self._ids = frozenset(seen.instances)
        members = seen.members
        return tuple(
            _machine(one, members.get(id), preempted=id in told or PREEMPTED in _tags(one))
            for id, one in sorted(seen.instances.items())
        )

    def _launch(self, source: AwsSource, count: int, tier: Tier, zone: str, atomic: bool, token: str) -> None:
        seen = self._see()
        mine = seen.of_token(token)
        if source.launch_template is not None:
            if zone:
                raise LaunchError(
                    "Config", "ZoneOfTemplate", "the zone of a template's instances is that of its subnets"
                )
            tags = {COMPUTE: self._name, INSTANCE_TYPE: source.instance_type, TOKEN: token}
            fleet = Fleet(self._aws.ec2, self._name)
            fleet.launch(
                source.launch_template, tags, machine=self._ec2_types.get(source.instance_type), count=count, mine=mine,
                tier=tier, atomic=atomic,
            )  # fmt: skip
            return
        group = seen.groups[source.instance_type]
        if zone and group.described.get("AvailabilityZones") != [zone]:
            raise LaunchError(
                "Config", "ZoneOfGroup", f"the Auto Scaling group {group.name} is not of zone {zone} alone"
            )
        self._groups.launch(group, count, token, mine)

    def _terminate(self, ids: frozenset[str]) -> None:
        seen = self._see()
        members = seen.members
        stays = {id for id in ids & seen.instances.keys() if _stays(seen.instances[id])}
        self._groups.terminate(sorted(id for id in stays if id in members and not _leaves(members[id][1])))
        Fleet(self._aws.ec2, self._name).terminate([id for id in stays if id not in members])

    def _hold(self, ids: frozenset[str]) -> None:
        for group in self._read_groups().values():
            self._groups.protect(group, ids)


def _tags(instance: Mapping[str, Any]) -> dict[str, str]:
    tags: Iterable[Mapping[str, str]] = instance.get("Tags", ())
    return {tag["Key"]: tag["Value"] for tag in tags}


def _stays(instance: Mapping[str, Any]) -> bool:
    return instance["State"]["Name"] in ("pending", "running")


def _leaves(member: Mapping[str, Any]) -> bool:
    return str(member["LifecycleState"]).startswith("Terminat")


def _machine(instance: Mapping[str, Any], member: tuple[str, Mapping[str, Any]] | None, *, preempted: bool) -> Machine:
    tags = _tags(instance)
    state: MachineState = "Running"
    if not _stays(instance) or (member is not None and _leaves(member[1])):
        state = "Terminating"
    elif preempted:
        state = "Preempted"
    elif instance["State"]["Name"] == "pending" or (member is not None and "Pending" in member[1]["LifecycleState"]):
        state = "Booting"
    return Machine(
        id=instance["InstanceId"],
        instance_type=member[0] if member is not None else tags.get(INSTANCE_TYPE, ""),
        tier="Spot" if instance.get("InstanceLifecycle") == "spot" else "Dedicated",
        state=state,
        launched_at=instance["LaunchTime"].timestamp(),
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        token=tags.get(TOKEN, ""),
    )
