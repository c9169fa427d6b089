"""The function `request_replacement`: notices in, nodes out of their groups, which launch new ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
from spot_failover.clients import CLIENT_CONFIG, QUEUE_CONFIG, RECORD_CONFIG
from spot_failover.fleets import FleetDirectory
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Step
from spot_failover.quick_start import quick_start
from spot_failover.settings import Settings
from spot_failover.telemetry import logger

from request_replacement.replacement import RequestReplacement

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

with quick_start():
    settings = Settings.from_environment(os.environ)
    autoscaling = boto3.client("autoscaling", config=CLIENT_CONFIG)
    function = NoticeFunction(
        Step.REPLACEMENT_REQUEST,
        RequestReplacement(autoscaling, FleetDirectory(autoscaling, tag_key=settings.fleet_tag_key)),
        settings=settings,
        ec2=boto3.client("ec2", config=CLIENT_CONFIG),
        sqs=boto3.client("sqs", config=QUEUE_CONFIG),
        dynamodb=boto3.client("dynamodb", config=RECORD_CONFIG),
    )


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Handle a batch of notices from the queue."""
    return function.handle(event, context)
