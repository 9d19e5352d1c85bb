"""AWS in this process: moto for what goes well, and refusals put before it for what does not."""

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import boto3
from moto import mock_aws
from moto.autoscaling.models import FakeAutoScalingGroup

from stoker.nodepools.aws import Clients

REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": REGION}
#: moto makes hundreds of images unless told otherwise.
QUIET = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
#: An image that moto knows.
IMAGE = "ami-12c6146b"
Json = dict[str, Any]


class Aws:
    """An account with a network and a launch template. calls: every operation asked for by the clients that `clients`
    makes, as `service:Operation`. room: instances that can be had yet, None for any number; a group that asks for more
    gets an activity that says so, in `words`."""

    def __init__(self) -> None:
        self.ec2: Any = boto3.client("ec2", region_name=REGION)
        self.autoscaling: Any = boto3.client("autoscaling", region_name=REGION)
        self.sqs: Any = boto3.client("sqs", region_name=REGION)
        self.made: Clients | None = None
        #: Called before each call that changes something; what it raises ends the call.
        self.before_change: Callable[[], None] = lambda: None
        self._forget()
        network = self.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        self.subnets = [
            one["SubnetId"]
            for one in self.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [network]}])["Subnets"]
        ]
        made = self.ec2.create_launch_template(
            LaunchTemplateName="machines", LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "t3.micro"}
        )
        self.template: str = made["LaunchTemplate"]["LaunchTemplateId"]

    def _forget(self) -> None:
        self.calls: list[str] = []
        self.requests: list[tuple[str, Json]] = []
        self.answers: dict[str, Callable[[Json], Json | None]] = {}
        self.room: int | None = None
        self.words = "We currently do not have sufficient g5.xlarge capacity in the Availability Zone you requested."
        self.activities: list[Json] = []

    def empty(self) -> None:
        """End everything that was made, for the next test: a new account takes two seconds."""
        for group in self.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]:
            self.autoscaling.delete_auto_scaling_group(
                AutoScalingGroupName=group["AutoScalingGroupName"], ForceDelete=True
            )
        states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        left = [
            one["InstanceId"]
            for reservation in self.ec2.describe_instances(Filters=states)["Reservations"]
            for one in reservation["Instances"]
        ]
        if left:
            self.ec2.terminate_instances(InstanceIds=left)
        for queue in self.sqs.list_queues().get("QueueUrls", ()):
            self.sqs.delete_queue(QueueUrl=queue)
        self._forget()

    def clients(self) -> Clients:
        """Clients whose every call is noted, and answered as `answers` says before moto is asked."""
        if self.made is not None:  # to make them takes a second
            return self.made
        self.made = made = Clients.of(REGION)
        for client in (made.autoscaling, made.ec2, made.eks, made.sqs):
            client.meta.events.register("provide-client-params", self._note)
            client.meta.events.register("before-call", self._answer)
        return made

    def _note(self, model: Any, params: Json, **_: Any) -> None:
        self.calls.append(f"{model.service_model.signing_name}:{model.name}")
        self.requests.append((model.name, params))

    def _answer(self, model: Any, params: Json, **_: Any) -> Any:
        if not model.name.startswith(("Describe", "Receive")):
            self.before_change()
        answer = self.answers.get(model.name)
        if answer is None and model.name == "DescribeScalingActivities":
            return _Response(200), {"Activities": self.activities}
        given = answer(self.asked(model.name)[-1]) if answer is not None else None
        return None if given is None else (_Response(400 if "Error" in given else 200), given)

    def asked(self, operation: str) -> list[Json]:
        """The parameters of every call of an operation."""
        return [params for name, params in self.requests if name == operation]

    def refuse(self, operation: str, code: str, message: str = "by request of the test") -> None:
        self.answers[operation] = lambda _: {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}

    def group(self, name: str, *, most: int = 10, tags: dict[str, str] | None = None, **given: Any) -> None:
        """An Auto Scaling group of one zone, at zero."""
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=0, MaxSize=most, DesiredCapacity=0,
            LaunchTemplate={"LaunchTemplateId": self.template, "Version": "$Default"},
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in (tags or {}).items()],
            **({"AvailabilityZones": [f"{REGION}a"]} | given),
        )  # fmt: skip

    def described(self, name: str) -> Json:
        found: list[Json] = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])[
            "AutoScalingGroups"
        ]
        return found[0]

    def instance(self, id: str) -> Json:
        found: Json = self.ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
        return found

    def notice(self, queue: str, instance: str, kind: str = "EC2 Spot Instance Interruption Warning") -> None:
        """What EventBridge puts into a queue."""
        body = {"detail-type": kind, "source": "aws.ec2", "detail": {"instance-id": instance}}
        self.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))

    def launch_within_room(self, group: Any, count: int, tags: Json) -> None:
        """In the place of moto's way to bring a group's instances."""
        possible = count if self.room is None else min(count, self.room)
        if self.room is not None:
            self.room -= possible
        if possible < count:
            now = datetime.datetime.now(datetime.UTC)
            self.activities.insert(0, {"StatusCode": "Failed", "StatusMessage": self.words, "StartTime": now})
        if possible:
            _LAUNCH(group, possible, tags)


_LAUNCH = FakeAutoScalingGroup.replace_autoscaling_group_instances


class _Response:
    """What botocore looks at of an HTTP response."""

    def __init__(self, status: int) -> None:
        self.status_code = status


@contextmanager
def aws() -> Iterator[Aws]:
    """An account that lasts as long as the context."""
    with mock.patch.dict("os.environ", CREDENTIALS | QUIET), mock_aws():
        account = Aws()
        with mock.patch.object(
            FakeAutoScalingGroup, "replace_autoscaling_group_instances",
            lambda group, count, tags: account.launch_within_room(group, count, tags),
        ):  # fmt: skip
            yield account
