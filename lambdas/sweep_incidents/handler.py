"""The function `sweep_incidents`: once a minute, what the events left over."""

from __future__ import annotations

import os
from typing import Any

import boto3
from spot_failover.clients import CLIENT_CONFIG
from spot_failover.quick_start import quick_start
from spot_failover.settings import SweepSettings
from spot_failover.telemetry import logger

from sweep_incidents.sweep import Sweep

with quick_start():
    sweep = Sweep(
        settings=SweepSettings.from_environment(os.environ),
        ec2=boto3.client("ec2", config=CLIENT_CONFIG),
        autoscaling=boto3.client("autoscaling", config=CLIENT_CONFIG),
        dynamodb=boto3.client("dynamodb", config=CLIENT_CONFIG),
    )


@logger.inject_lambda_context
def handler(_event: dict[str, Any], _context: Any) -> dict[str, int]:
    """Sweep once; the schedule's event says nothing."""
    return sweep.handle()
