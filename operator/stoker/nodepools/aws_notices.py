"""Notices that EC2 takes Spot instances back, from the SQS queue that EventBridge fills. Blocking calls.

A notice becomes a tag of its instance before its message goes: so it is known to whoever asks, also after a restart.
"""

import json
import time
from collections.abc import Collection, Mapping
from typing import Any

PREEMPTED = "stoker.dev/preempted"
#: EventBridge's words for what is a notice of two minutes; the recommendation to rebalance is only a guess of AWS's.
_NOTICE = "EC2 Spot Instance Interruption Warning"
#: A message of others is left for them so long, in seconds; by then its instance has gone anyway.
_OLD_SECONDS = 600
#: How long a message that we have read is hidden from other pools that read the same queue, in seconds.
_HIDDEN_SECONDS = 2


class Notices:
    def __init__(self, sqs: Any, ec2: Any, queue: str) -> None:
        self._sqs = sqs
        self._ec2 = ec2
        self._queue = queue

    def take(self, ours: Collection[str]) -> frozenset[str]:
        """Read the queue; the ids of our instances that have a new notice, which are tagged now."""
        answer = self._sqs.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=10, VisibilityTimeout=_HIDDEN_SECONDS, WaitTimeSeconds=0,
            AttributeNames=["SentTimestamp"],
        )  # fmt: skip
        told = set()
        for message in answer.get("Messages", ()):
            instance = _instance(message)
            if instance in ours:
                self._ec2.create_tags(Resources=[instance], Tags=[{"Key": PREEMPTED, "Value": str(int(time.time()))}])
                told.add(instance)
            elif instance and _age(message) < _OLD_SECONDS:
                continue
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return frozenset(told)


def _instance(message: Mapping[str, Any]) -> str:
    """The instance that a message gives notice of; empty for any other message."""
    try:
        event = json.loads(message["Body"])
        return str(event["detail"]["instance-id"]) if event["detail-type"] == _NOTICE else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _age(message: Mapping[str, Any]) -> float:
    sent = message.get("Attributes", {}).get("SentTimestamp")
    return time.time() - float(sent) / 1000 if sent else 0.0
