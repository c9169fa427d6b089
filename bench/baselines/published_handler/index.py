"""The published pattern's function: for one notice, describe, detach and send a command, one after another.

After awslabs/ec2-spot-labs, ec2-spot-interruption-handler, by its README and template: the group comes from
the instance's own tag, DetachInstances keeps the desired capacity, which launches a replacement and
deregisters the node from the group's target groups, and Run Command follows. Clients are boto3's defaults:
legacy retries, five attempts. It looks no parameter up, which the published one does before its command: a
call less.
"""

from __future__ import annotations

import logging
from typing import Any

import boto3

GROUP_TAG = "aws:autoscaling:groupName"
COMMAND = "spot-failover-node drain"
DELIVERY_SECONDS = 30
EXECUTION_SECONDS = 120

logger = logging.getLogger()
logger.setLevel(logging.INFO)
ec2 = boto3.client("ec2")
autoscaling = boto3.client("autoscaling")
ssm = boto3.client("ssm")


def handler(event: dict[str, Any], _: Any) -> str:
    """Handle one interruption notice. What fails is raised, and Lambda tries the whole event again."""
    instance_id = event["detail"]["instance-id"]
    group = group_of(instance_id)
    if group is None:
        logger.info("%s is in no group", instance_id)
        return "ignored"
    autoscaling.detach_instances(
        InstanceIds=[instance_id], AutoScalingGroupName=group, ShouldDecrementDesiredCapacity=False
    )
    ssm.send_command(
        InstanceIds=[instance_id],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": [COMMAND], "executionTimeout": [str(EXECUTION_SECONDS)]},
        TimeoutSeconds=DELIVERY_SECONDS,
    )
    logger.info("%s has left %s", instance_id, group)
    return "handled"


def group_of(instance_id: str) -> str | None:
    """Return the group that the instance's tag names."""
    found = ec2.describe_instances(InstanceIds=[instance_id])
    tags = found["Reservations"][0]["Instances"][0].get("Tags", [])
    return next((tag["Value"] for tag in tags if tag["Key"] == GROUP_TAG), None)
