"""Installs Lambda: functions and the event sources that invoke them."""

from __future__ import annotations

from local_aws.events import schedules
from local_aws.functions import asynchronous, event_sources
from local_aws.functions import pool as functions
from local_aws.iam.authorization import Authorizer
from local_aws.world import World


def install(world: World, authorizer: Authorizer) -> None:
    """Run functions, and poll queues for them."""
    runner = functions.Functions(world, authorizer)
    world.invoke_later = asynchronous.install(world, runner).put
    functions.install(world, runner)
    event_sources.install(world, runner, authorizer)
    schedules.install(world, runner, authorizer)
