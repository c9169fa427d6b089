"""The function `track_incident`: what became of drains and replacements, into the incidents."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
from spot_failover.clients import CLIENT_CONFIG, QUEUE_CONFIG
from spot_failover.quick_start import quick_start
from spot_failover.settings import TrackSettings
from spot_failover.telemetry import logger

from track_incident.track_function import TrackFunction

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

with quick_start():
    function = TrackFunction(
        settings=TrackSettings.from_environment(os.environ),
        autoscaling=boto3.client("autoscaling", config=CLIENT_CONFIG),
        ssm=boto3.client("ssm", config=CLIENT_CONFIG),
        sqs=boto3.client("sqs", config=QUEUE_CONFIG),
        dynamodb=boto3.client("dynamodb", config=CLIENT_CONFIG),
    )


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> PartialItemFailureResponse:
    """Handle a batch of events from the queue."""
    return function.handle(event, context)
