"""The function `drain_node`: notices in, drain commands out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
from spot_failover.clients import CLIENT_CONFIG, QUEUE_CONFIG, RECORD_CONFIG
from spot_failover.departures import parts_of_any_fleets
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Step
from spot_failover.quick_start import quick_start
from spot_failover.settings import DrainSettings
from spot_failover.telemetry import logger

from drain_node.drain import Drain

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

with quick_start():
    settings = DrainSettings.from_environment(os.environ)
    function = NoticeFunction(
        Step.DRAIN_COMMAND,
        Drain(boto3.client("ssm", config=CLIENT_CONFIG), document=settings.drain_document),
        settings=settings,
        ec2=boto3.client("ec2", config=CLIENT_CONFIG),
        sqs=boto3.client("sqs", config=QUEUE_CONFIG),
        dynamodb=boto3.client("dynamodb", config=RECORD_CONFIG),
        parts=parts_of_any_fleets,
    )


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Handle a batch of notices from the queue."""
    return function.handle(event, context)
