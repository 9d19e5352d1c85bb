"""AWS keeps the contract, with groups and with launch templates, and leaves alone what is another autoscaler's."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from stoker.api.computecluster import ComputeCluster, ComputeClusterSpec, InstanceType, NamespaceSelector
from stoker.api.kube import Node, NodeSpec, ObjectMeta
from stoker.api.providers import AwsLaunchTemplate, AwsNodegroup, AwsProvider, AwsSource
from stoker.api.providers import Provider as ProviderSpec
from stoker.core.cluster.machines import LaunchFault
from stoker.nodepools.aws import AwsPool, Clients
from stoker.nodepools.aws_faults import fault_of_words
from stoker.nodepools.pool import LaunchError, PoolError
from tests.component.nodepools.contract import MachineContract, Provider, launch
from tests.support.aws import IMAGE, REGION, Aws, Json, aws

#: A code of each kind, as EC2 and Auto Scaling give them.
CODES: dict[LaunchFault, str] = {
    "Capacity": "InsufficientInstanceCapacity", "Quota": "VcpuLimitExceeded", "Throttled": "RequestLimitExceeded",
    "Auth": "UnauthorizedOperation", "Config": "InvalidParameterValue", "Transient": "InternalError",
}  # fmt: skip
WORDS: dict[LaunchFault, str] = {
    "Capacity": "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have sufficient "
    "g5.xlarge capacity in zones with support for 'gp3' volumes. Launching EC2 instance failed.",
    "Quota": "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that "
    "the specified instance type belongs to. Launching EC2 instance failed.",
    "Throttled": "Request limit exceeded. Launching EC2 instance failed.",
    "Auth": "You are not authorized to use launch template: lt-1. Launching EC2 instance failed.",
    "Config": "The requested configuration is currently not supported. Launching EC2 instance failed.",
    "Transient": "Internal error on launch. Launching EC2 instance failed.",
}


def answered(code: str, message: str = "x") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "RunInstances")


FAULTS: list[tuple[Exception, LaunchFault]] = [
    *((answered(code), fault) for fault, code in CODES.items()),
    (answered("Client.InstanceLimitExceeded"), "Quota"),
    (answered("InvalidLaunchTemplateId.NotFound"), "Config"),
    (answered("ExpiredTokenException"), "Auth"),
    (NoCredentialsError(), "Auth"),
    (EndpointConnectionError(endpoint_url="https://ec2"), "Transient"),
    (PoolError("GroupNotFound", "x"), "Config"),
    (LaunchError("Quota", "X", "y"), "Quota"),
]


def pool_of(account: Aws, name: str, *sources: AwsSource, **given: Any) -> AwsPool:
    block = AwsProvider(region=REGION, sources=sources, **given)
    spec = ComputeClusterSpec(
        provider=ProviderSpec(type="AWS", aws=block), max_instances=10, allowed_namespaces=NamespaceSelector(),
        instance_types=(InstanceType(name="std", machine="t3.small", resources={"cpu": "2"}),),
    )  # fmt: skip
    return AwsPool(ComputeCluster(metadata=ObjectMeta(name=name), spec=spec), block, account.clients)


def of_group(account: Aws, name: str = "cpu", **given: Any) -> AwsPool:
    return pool_of(account, name, AwsSource(instance_type="std", auto_scaling_group=f"{name}-group"), **given)


def of_template(account: Aws, name: str = "cpu", **given: Any) -> AwsPool:
    template = AwsLaunchTemplate(id=account.template, subnets=(account.subnets[0],))
    return pool_of(account, name, AwsSource(instance_type="std", launch_template=template), **given)


@pytest.fixture(scope="module")
def any_account() -> Iterator[Aws]:
    with aws() as found:
        yield found


@pytest.fixture
def account(any_account: Aws) -> Iterator[Aws]:
    for name in ("cpu-group", "gpu-group"):
        any_account.group(name)
    yield any_account
    any_account.empty()


async def strangers(account: Aws) -> None:
    """Instances of another group, of none, and of another pool's template."""
    account.group("theirs")
    account.autoscaling.set_desired_capacity(AutoScalingGroupName="theirs", DesiredCapacity=1)
    account.ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1)
    await launch(of_template(account, "other"), "cpu-1", 1)


class TestGroups(MachineContract):
    @pytest.fixture
    def provider(self, account: Aws) -> Provider:
        async def refuse(fault: LaunchFault) -> None:
            account.room, account.words = 0, WORDS[fault]

        async def only(count: int) -> None:
            account.room = count

        return Provider(lambda name: of_group(account, name), refuse, lambda: strangers(account), only, faults=FAULTS)


class TestRefusedGroups(TestGroups):
    """The same, where AWS refuses the order itself."""

    @pytest.fixture
    def provider(self, account: Aws) -> Provider:
        async def refuse(fault: LaunchFault) -> None:
            account.refuse("SetDesiredCapacity", CODES[fault])

        return Provider(lambda name: of_group(account, name), refuse, lambda: strangers(account), faults=FAULTS)


class TestTemplates(MachineContract):
    @pytest.fixture
    def provider(self, account: Aws) -> Provider:
        def fleet(code: str, room: int, request: Json) -> Json | None:
            least = request["OnDemandOptions"].get("MinTargetCapacity", 0)
            wanted = request["TargetCapacitySpecification"]["TotalTargetCapacity"]
            if wanted <= room:
                return None
            made = []
            if least <= room and room:
                tags = request["TagSpecifications"]
                found = account.ec2.run_instances(ImageId=IMAGE, MinCount=room, MaxCount=room, TagSpecifications=tags)
                made = [{"InstanceIds": [one["InstanceId"] for one in found["Instances"]]}]
            return {"Instances": made, "Errors": [{"ErrorCode": code, "ErrorMessage": "no more"}]}

        left = [10]

        async def only(count: int) -> None:
            left[0] = count

            def answer(request: Json) -> Json | None:
                here, left[0] = left[0], 0
                return fleet(CODES["Capacity"], here, request)

            account.answers["CreateFleet"] = answer

        async def refuse(fault: LaunchFault) -> None:
            account.answers["CreateFleet"] = lambda request: fleet(CODES[fault], 0, request)

        return Provider(
            lambda name: of_template(account, name), refuse, lambda: strangers(account), only, faults=FAULTS
        )


# -- groups


async def test_an_instance_of_a_group_goes_with_its_place_and_the_others_stay_protected(account: Aws) -> None:
    pool = of_group(account)
    await launch(pool, "cpu-1", 3)
    first, second, third = (machine.id for machine in await pool.list())
    await pool.hold([first, third])
    assert {first: True, second: False, third: True} == protected(account)

    await pool.terminate([second], token="cpu-2")

    assert 2 == account.described("cpu-group")["DesiredCapacity"]
    assert {first: True, third: True} == protected(account)
    await pool.hold([first])
    assert {first: True, third: False} == protected(account)


def protected(account: Aws) -> dict[str, bool]:
    return {one["InstanceId"]: one["ProtectedFromScaleIn"] for one in account.described("cpu-group")["Instances"]}


async def test_protecting_what_is_protected_asks_for_nothing(account: Aws) -> None:
    pool = of_group(account)
    await launch(pool, "cpu-1", 2)
    ids = [machine.id for machine in await pool.list()]
    for _ in range(3):
        await pool.hold(ids)

    assert 1 == account.calls.count("autoscaling:SetInstanceProtection")


async def test_a_launch_that_fails_is_taken_back_and_the_next_one_goes_on(account: Aws) -> None:
    pool = of_group(account)
    account.room = 1
    await launch(pool, "cpu-1", 3)
    assert 3 == account.described("cpu-group")["DesiredCapacity"]
    with pytest.raises(LaunchError, match="do not have sufficient") as caught:
        await launch(of_group(account), "cpu-1", 3)

    assert ("Capacity", 1) == (caught.value.fault, caught.value.launched)
    assert 1 == account.described("cpu-group")["DesiredCapacity"], "nothing may come when nobody wants it"
    account.room = None
    await launch(pool, "cpu-2", 2)
    assert ["cpu-1", "cpu-2", "cpu-2"] == sorted(machine.token for machine in await pool.list())


async def test_the_failed_launch_of_one_token_does_not_block_another(account: Aws) -> None:
    account.room = 0
    await launch(of_group(account), "cpu-1", 2)
    account.room = None
    await launch(of_group(account), "cpu-2", 1)

    assert ["cpu-2"] == [machine.token for machine in await of_group(account).list()]
    assert 1 == account.described("cpu-group")["DesiredCapacity"]


async def test_two_launches_under_way_are_told_apart(account: Aws) -> None:
    """The second waits while the first one's instances are under way: instances do not say whose order they are."""
    account.room = 0
    pool = of_group(account)
    await launch(pool, "cpu-1", 2)
    account.activities.clear()  # they just take their time
    await launch(pool, "cpu-2", 1)
    assert 2 == account.described("cpu-group")["DesiredCapacity"]

    account.room = None
    account.autoscaling.set_desired_capacity(AutoScalingGroupName="cpu-group", DesiredCapacity=2)
    await launch(pool, "cpu-2", 1)
    assert ["cpu-1", "cpu-1", "cpu-2"] == sorted(machine.token for machine in await pool.list())


@pytest.mark.parametrize("stop_before", ["CreateOrUpdateTags", "SetDesiredCapacity"])
async def test_a_process_that_dies_while_it_orders_has_its_order_done_once(account: Aws, stop_before: str) -> None:
    account.refuse(stop_before, "InternalError")
    with pytest.raises(LaunchError):
        await launch(of_group(account), "cpu-1", 2)
    account.answers.clear()
    for _ in range(2):
        await launch(of_group(account), "cpu-1", 2)

    assert ["cpu-1", "cpu-1"] == [machine.token for machine in await of_group(account).list()]


async def test_a_reply_that_is_lost_does_not_order_twice(account: Aws) -> None:
    """The group was raised, its instances are under way, and the process that asked for them has gone."""
    account.room = 0
    await launch(of_group(account), "cpu-1", 2)
    account.activities.clear()
    for _ in range(3):
        await launch(of_group(account), "cpu-1", 2)

    assert 2 == account.described("cpu-group")["DesiredCapacity"]
    assert 1 == account.calls.count("autoscaling:SetDesiredCapacity")


async def test_a_group_is_not_raised_beyond_its_size(account: Aws) -> None:
    with pytest.raises(LaunchError, match="may have 10 instances and 11 are wanted: raise its maximum") as caught:
        await launch(of_group(account), "cpu-1", 11)

    assert ("Config", "GroupMaxSize") == (caught.value.fault, caught.value.reason)
    assert 0 == account.described("cpu-group")["DesiredCapacity"]


@pytest.mark.parametrize(
    "tag", ["k8s.io/cluster-autoscaler/enabled", "karpenter.sh/nodepool", "karpenter.sh/managed-by"]
)
async def test_a_group_of_another_autoscaler_is_refused(account: Aws, tag: str) -> None:
    account.group("owned-group", tags={tag: "true"})
    pool = of_group(account, "owned")
    with pytest.raises(PoolError, match=r"Auto Scaling group owned-group .*" + re.escape(tag)) as caught:
        await pool.list()
    assert "OwnedByAnotherAutoscaler" == caught.value.reason
    with pytest.raises(LaunchError):
        await launch(pool, "owned-1", 1)
    with pytest.raises(PoolError, match="owned-group"):
        await pool.terminate(["i-1"], token="owned-2")

    assert not {call for call in account.calls if not call.split(":")[1].startswith("Describe")}


async def test_a_tag_that_eks_puts_on_its_groups_can_be_set_aside(account: Aws) -> None:
    account.group("owned-group", tags={"k8s.io/cluster-autoscaler/enabled": "true"})
    pool = of_group(account, "owned", only_autoscaler=True)
    await launch(pool, "owned-1", 1)

    assert 1 == len(await pool.list())


async def test_a_group_that_is_not_there_is_told(account: Aws) -> None:
    with pytest.raises(PoolError, match="no Auto Scaling group 'none-group'") as caught:
        await of_group(account, "none").list()

    assert "Config" == of_group(account).classify(caught.value)


async def test_a_group_of_several_zones_no_longer_evens_them_out(account: Aws) -> None:
    account.group("wide-group", AvailabilityZones=[f"{REGION}a", f"{REGION}b"])
    pool = of_group(account, "wide")
    await launch(pool, "wide-1", 1)

    assert ["AZRebalance"] == [one["ProcessName"] for one in account.described("wide-group")["SuspendedProcesses"]]
    assert () == (await pool.describe()).warnings


async def test_what_eks_does_to_its_groups_is_a_warning(account: Aws) -> None:
    account.group(
        "wide-group", tags={"eks:nodegroup-name": "n"}, AvailabilityZones=[f"{REGION}a", f"{REGION}b"],
        CapacityRebalance=True,
    )  # fmt: skip
    pool = of_group(account, "wide")
    await launch(pool, "wide-1", 1)

    assert "autoscaling:SuspendProcesses" not in account.calls
    reasons = [reason for reason, _ in (await pool.describe()).warnings]
    assert "GroupRebalances" in reasons


async def test_a_node_group_is_the_group_behind_it(account: Aws) -> None:
    account.answers["DescribeNodegroup"] = lambda request: {
        "nodegroup": {"resources": {"autoScalingGroups": [{"name": "cpu-group"}]}}
    }
    pool = pool_of(account, "cpu", AwsSource(instance_type="std", nodegroup=AwsNodegroup(cluster="prod", name="gpus")))
    await launch(pool, "cpu-1", 2)

    assert 2 == account.described("cpu-group")["DesiredCapacity"]
    assert [{"clusterName": "prod", "nodegroupName": "gpus"}] == account.asked("DescribeNodegroup")


async def test_a_node_is_the_pools_by_its_instance_until_it_has_the_label(account: Aws) -> None:
    pool = of_group(account)
    await launch(pool, "cpu-1", 1)
    (machine,) = await pool.list()
    spec = NodeSpec(provider_id=f"aws:///{REGION}a/{machine.id}")

    assert pool.owns(Node(metadata=ObjectMeta(name="ip-10-0-0-1"), spec=spec))
    assert not pool.owns(Node(metadata=ObjectMeta(name="n"), spec=NodeSpec(provider_id="aws:///a/i-other")))
    assert not pool.owns(Node(metadata=ObjectMeta(name="n")))
    labels = {"stoker.dev/compute": "other"}
    assert not pool.owns(Node(metadata=ObjectMeta(name="n", labels=labels), spec=spec))


# -- launch templates


async def test_an_atomic_launch_asks_for_all_or_none(account: Aws) -> None:
    pool = of_template(account)
    await launch(pool, "cpu-1", 2, atomic=True)

    (request,) = account.asked("CreateFleet")
    assert "instant" == request["Type"]
    assert {"MinTargetCapacity": 2, "SingleAvailabilityZone": True, "SingleInstanceType": True} == request[
        "OnDemandOptions"
    ]
    assert "t3.small" == request["LaunchTemplateConfigs"][0]["Overrides"][0]["InstanceType"]
    assert {"t3.small"} == {account.instance(one.id)["InstanceType"] for one in await pool.list()}


async def test_spot_is_asked_for_as_spot(account: Aws) -> None:
    await of_template(account).launch(count=1, instance_type="std", tier="Spot", zone="", atomic=True, token="cpu-1")

    (request,) = account.asked("CreateFleet")
    assert "spot" == request["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
    assert 1 == request["SpotOptions"]["MinTargetCapacity"]
    assert "OnDemandOptions" not in request


async def test_the_same_launch_has_the_same_client_token(account: Aws) -> None:
    account.answers["CreateFleet"] = lambda request: {"Instances": [{"InstanceIds": ["i-1"]}], "Errors": []}
    for _ in range(2):  # instances show in the list a little later than in the answer
        await launch(of_template(account), "cpu-1", 1)
    await launch(of_template(account), "cpu-2", 1)

    first, again, other = (request["ClientToken"] for request in account.asked("CreateFleet"))
    assert first == again != other


# -- notices of preemption


async def test_an_instance_with_notice_is_preempted_and_a_new_process_knows_it(account: Aws) -> None:
    queue = account.sqs.create_queue(QueueName="notices")["QueueUrl"]
    pool = of_group(account, interruption_queue=queue)
    assert (await pool.describe()).spot_notice
    await launch(pool, "cpu-1", 2)
    first, second = (machine.id for machine in await pool.list())
    account.notice(queue, second)

    assert {first: "Running", second: "Preempted"} == {one.id: one.state for one in await pool.list()}
    again = of_group(account, interruption_queue=queue)
    assert {first: "Running", second: "Preempted"} == {one.id: one.state for one in await again.list()}
    assert 1 == account.calls.count("sqs:DeleteMessage")


async def test_notices_of_others_are_left_to_them(account: Aws) -> None:
    queue = account.sqs.create_queue(QueueName="notices")["QueueUrl"]
    account.notice(queue, "i-0123456789abcdef0")
    pool = of_group(account, interruption_queue=queue)
    await pool.list()

    assert "sqs:DeleteMessage" not in account.calls
    attributes = account.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert 1 == int(attributes["ApproximateNumberOfMessages"]) + int(
        attributes["ApproximateNumberOfMessagesNotVisible"]
    )


@pytest.mark.parametrize("body", ["no JSON", "[]", '{"detail-type": "EC2 Instance Rebalance Recommendation"}'])
async def test_messages_that_are_no_notices_go(account: Aws, body: str) -> None:
    queue = account.sqs.create_queue(QueueName="notices")["QueueUrl"]
    account.sqs.send_message(QueueUrl=queue, MessageBody=body)
    pool = of_group(account, interruption_queue=queue)
    await launch(pool, "cpu-1", 1)

    assert ["Running"] == [one.state for one in await pool.list()]
    assert 1 == account.calls.count("sqs:DeleteMessage")


# -- errors


@pytest.mark.parametrize(("fault", "words"), WORDS.items())
def test_what_an_activity_says_is_understood(fault: LaunchFault, words: str) -> None:
    assert fault == fault_of_words(words)[0]


async def test_a_list_that_is_not_allowed_says_what_to_do(account: Aws) -> None:
    account.refuse("DescribeAutoScalingGroups", "AccessDenied", "User is not authorized")
    with pytest.raises(
        PoolError, match=r"AWS refused DescribeAutoScalingGroups: User is not .* docs/how-to/aws"
    ) as caught:
        await of_group(account).list()

    assert "AccessDenied" == caught.value.reason


async def test_a_type_without_a_source_is_told(account: Aws) -> None:
    with pytest.raises(LaunchError, match="has none for type 'big': std"):
        await launch(of_group(account), "cpu-1", 1, kind="big")


async def test_a_group_whose_smallest_size_forbids_it_says_so(account: Aws) -> None:
    pool = of_group(account)
    await launch(pool, "cpu-1", 1)
    (machine,) = await pool.list()
    account.refuse(
        "TerminateInstanceInAutoScalingGroup", "ValidationError",
        "Currently, desiredSize equals minSize (1). Terminating instance without replacement will violate group's min size constraint.",
    )  # fmt: skip
    with pytest.raises(PoolError, match="lower the group's minimum size to 0"):
        await pool.terminate([machine.id], token="cpu-2")


# -- rights


@pytest.mark.parametrize("has_role", [True, False])
def test_the_service_accounts_role_comes_before_the_object_stores_keys(
    any_account: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_role: bool
) -> None:
    token = tmp_path / "token"
    token.write_text("a.web.token")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-stores")
    if has_role:
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/stoker")
    clients = Clients.of(REGION)

    found = clients.ec2._request_signer._credentials
    assert ("assume-role-with-web-identity" if has_role else "env") == found.method
    assert has_role is (found.get_frozen_credentials().access_key != "the-stores")


async def test_the_documented_rights_are_those_that_are_used(account: Aws, repository: Path) -> None:
    """Every call that there is, made once, against the policy of the how-to page."""
    account.group("wide-group", AvailabilityZones=[f"{REGION}a", f"{REGION}b"])
    account.answers["DescribeNodegroup"] = lambda request: {
        "nodegroup": {"resources": {"autoScalingGroups": [{"name": "wide-group"}]}}
    }
    queue = account.sqs.create_queue(QueueName="notices")["QueueUrl"]
    source = AwsSource(instance_type="std", nodegroup=AwsNodegroup(cluster="prod", name="gpus"))
    pool = pool_of(account, "cpu", source, interruption_queue=queue)
    account.room = 1
    await launch(pool, "cpu-1", 2)
    with pytest.raises(LaunchError):
        await launch(pool, "cpu-1", 2)
    (machine,) = await pool.list()
    await pool.hold([machine.id])
    account.notice(queue, machine.id)
    await pool.list()
    await pool.terminate([machine.id], token="cpu-2")
    fleet = of_template(account, "gpu")
    await launch(fleet, "gpu-1", 1)
    await fleet.terminate([one.id for one in await fleet.list()], token="gpu-2")

    page = (repository / "docs" / "how-to" / "aws-node-groups.md").read_text()
    policy = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])  # type: ignore[index]
    by_use = {one["Sid"]: set(one["Action"]) for one in policy["Statement"]}
    # What EC2 itself does in our name, and so is not among our calls.
    implied = by_use.pop("WhatCreateFleetDoesInOurName")
    assert {"ec2:RunInstances", "iam:PassRole"} == implied
    assert set(account.calls) == set().union(*by_use.values())
    assert not any("*" in action for action in set().union(implied, *by_use.values()))
