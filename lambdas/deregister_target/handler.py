"""The function `deregister_target`: notices in, targets out of their target groups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
from spot_failover.clients import CLIENT_CONFIG, QUEUE_CONFIG, RECORD_CONFIG
from spot_failover.fleets import FleetDirectory
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Step
from spot_failover.quick_start import quick_start
from spot_failover.settings import DeregisterSettings
from spot_failover.telemetry import logger

from deregister_target.deregister import Deregister
from deregister_target.tagged_groups import TaggedTargetGroups

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

with quick_start():
    settings = DeregisterSettings.from_environment(os.environ)
    tag_key = settings.fleet_tag_key
    function = NoticeFunction(
        Step.DEREGISTER,
        Deregister(
            boto3.client("elbv2", config=CLIENT_CONFIG),
            FleetDirectory(boto3.client("autoscaling", config=CLIENT_CONFIG), tag_key=tag_key),
            TaggedTargetGroups(
                boto3.client("resourcegroupstaggingapi", config=CLIENT_CONFIG), tag_key=tag_key
            ),
            reserve=settings.hold_reserve,
        ),
        settings=settings,
        ec2=boto3.client("ec2", config=CLIENT_CONFIG),
        sqs=boto3.client("sqs", config=QUEUE_CONFIG),
        dynamodb=boto3.client("dynamodb", config=RECORD_CONFIG),
    )


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Handle a batch of notices from the queue."""
    return function.handle(event, context)
