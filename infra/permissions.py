"""Policy statements, written by hand: describes may take `*`, everything else is bound to the fleet tag or an ARN."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam

from infra.names import FLEET_TAG_KEY

# The key must be there; its value is the fleet's name, and any fleet's will do.
_TAGGED_AS_A_FLEET = {"Null": {f"aws:ResourceTag/{FLEET_TAG_KEY}": "false"}}


def look_up(*actions: str) -> iam.PolicyStatement:
    """Allow reading calls that know no resource of their own."""
    return iam.PolicyStatement(actions=list(actions), resources=["*"])


def on(resources: Sequence[str], *actions: str) -> iam.PolicyStatement:
    """Allow actions on named resources."""
    return iam.PolicyStatement(actions=list(actions), resources=list(resources))


def on_fleets(resource_pattern: str, *actions: str) -> iam.PolicyStatement:
    """Allow actions on every resource of a kind that carries the fleet tag, ours or somebody else's."""
    return iam.PolicyStatement(
        actions=list(actions), resources=[resource_pattern], conditions=_TAGGED_AS_A_FLEET
    )
