"""Policy statements by hand: describes may take `*`, all else is bound to the fleet tag or an ARN."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from constructs import IConstruct

from infra.names import FLEET_TAG_KEY


def look_up(*actions: str) -> iam.PolicyStatement:
    """Allow reading calls that know no resource of their own."""
    return iam.PolicyStatement(actions=list(actions), resources=["*"])


def on(resources: Sequence[str], *actions: str) -> iam.PolicyStatement:
    """Allow actions on named resources."""
    return iam.PolicyStatement(actions=list(actions), resources=list(resources))


def reading_below(scope: IConstruct, uri: str) -> list[iam.PolicyStatement]:
    """Allow listing and reading what is in S3 below `s3://BUCKET/PREFIX`, or in all of `s3://BUCKET`."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    listing = on([s3_arn(scope, bucket)], "s3:ListBucket")
    if prefix:
        listing.add_condition("StringLike", {"s3:prefix": [prefix, f"{prefix}/*"]})
    return [listing, on([s3_arn(scope, bucket, f"{prefix}/*" if prefix else "*")], "s3:GetObject")]


def s3_arn(scope: IConstruct, bucket: str, key: str | None = None) -> str:
    """Return the ARN of a bucket, or of what is in it."""
    return Stack.of(scope).format_arn(
        service="s3",
        region="",
        account="",
        resource=bucket,
        resource_name=key,
        arn_format=ArnFormat.NO_RESOURCE_NAME if key is None else ArnFormat.SLASH_RESOURCE_NAME,
    )


def on_fleets(resource_pattern: str, *actions: str) -> iam.PolicyStatement:
    """Allow actions on every resource of a kind that carries the fleet tag, ours or somebody else's."""
    return _on_tagged("aws:ResourceTag", resource_pattern, *actions)


def on_nodes_through_systems_manager(resource_pattern: str, *actions: str) -> iam.PolicyStatement:
    """Allow Systems Manager's actions on every instance that carries the fleet tag.

    By Systems Manager's own condition key: its guide binds Run Command to tags with that one, and asks for
    more conditions where SendCommand is bound by a global key (user guide, "Setting up Run Command").
    """
    return _on_tagged("ssm:resourceTag", resource_pattern, *actions)


def _on_tagged(condition_key: str, resource_pattern: str, *actions: str) -> iam.PolicyStatement:
    # The tag must be there; its value is the fleet's name, and any fleet's will do.
    tagged = {"Null": {f"{condition_key}/{FLEET_TAG_KEY}": "false"}}
    return iam.PolicyStatement(actions=list(actions), resources=[resource_pattern], conditions=tagged)
