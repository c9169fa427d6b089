"""The roles of the image pipeline: the builder's, and the one that deletes old images."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra.nag import acknowledge, wildcards
from infra.permissions import on, reading_below, s3_arn

_BUILDER_POLICIES = ("EC2InstanceProfileForImageBuilder", "AmazonSSMManagedInstanceCore")
_CLEAN_UP_POLICY = "service-role/EC2ImageBuilderLifecycleExecutionPolicy"


def builder_profile(
    scope: Construct, *, agent: s3_assets.Asset, scripts: s3_assets.Asset, baked: Sequence[str]
) -> iam.CfnInstanceProfile:
    """Return the profile of the instances that build and test: AWS's own policies for it, and our files.

    `baked`: places in S3 whose files go into the image.
    """
    objects = [s3_arn(scope, asset.s3_bucket_name, asset.s3_object_key) for asset in (agent, scripts)]
    below = [statement for uri in baked for statement in reading_below(scope, uri)]
    statements = [on(objects, "s3:GetObject"), *below]
    role = iam.Role(
        scope,
        "BuilderRole",
        assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
        managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(name) for name in _BUILDER_POLICIES],
        inline_policies={"files": iam.PolicyDocument(statements=statements)},
    )
    acknowledge(
        role,
        "What Image Builder and Systems Manager need there is AWS's to know, and AWS keeps both up to date.",
        *(_managed(name) for name in _BUILDER_POLICIES),
    )
    if baked:
        acknowledge(role, "A model is many files, and so are compile caches.", *wildcards(scope, statements))
    return iam.CfnInstanceProfile(scope, "BuilderProfile", roles=[role.role_name])


def clean_up_role(scope: Construct) -> iam.Role:
    """Return the role that deletes old images; its policy touches only what Image Builder has made."""
    role = iam.Role(
        scope,
        "CleanUpRole",
        assumed_by=iam.ServicePrincipal("imagebuilder.amazonaws.com"),
        managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(_CLEAN_UP_POLICY)],
    )
    acknowledge(
        role, "AWS's policy for this very task, bound to Image Builder's own tag.", _managed(_CLEAN_UP_POLICY)
    )
    return role


def _managed(name: str) -> str:
    return f"IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{name}]"
