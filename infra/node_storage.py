"""What outlives a fleet's nodes: their log, and the compile caches that the first of them made."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.config import FleetConfig
from infra.nag import acknowledge
from infra.names import COMPILE_CACHE_PREFIX, node_log_group_name
from infra.observability import log_retention

# S3 counts from the upload, not from the last use: a fleet that needs the cache after that makes it anew.
COMPILE_CACHE_DAYS = 90


class NodeStorage(Construct):
    """The log group of a fleet's nodes, and its bucket where it keeps compile caches."""

    def __init__(self, scope: Construct, construct_id: str, *, config: FleetConfig) -> None:
        super().__init__(scope, construct_id)
        self.log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=node_log_group_name(config.name),
            retention=log_retention(config.log_retention_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.artifacts = self._bucket() if config.compile_cache else None

    @property
    def artifacts_uri(self) -> str:
        """Return where nodes keep compile caches; empty: nowhere."""
        return f"s3://{self.artifacts.bucket_name}/{COMPILE_CACHE_PREFIX}" if self.artifacts else ""

    def _bucket(self) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Artifacts",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            versioned=False,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(COMPILE_CACHE_DAYS),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            # CloudFormation cannot delete a bucket that holds something; this one empties itself.
            removal_policy=RemovalPolicy.RETAIN,
        )
        acknowledge(
            bucket,
            "Only this fleet's nodes have the right to use it, and what it holds can be made again.",
            "S1",
        )
        return bucket
