"""Installs Lambda: functions and the event sources that invoke them."""

from __future__ import annotations

from local_aws import event_sources, functions
from local_aws.authorization import Authorizer
from local_aws.world import World


def install(world: World, authorizer: Authorizer) -> None:
    """Run functions, and poll queues for them."""
    runner = functions.Functions(world, authorizer)
    functions.install(world, runner)
    event_sources.install(world, runner, authorizer)
