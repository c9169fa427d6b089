"""AWS's own limits on requests, as data: the buckets that a call takes tokens from, and each figure's source.

Figures are the defaults of an account in a region, read in November 2026. "Transactions per second" are taken
as a bucket of one second's worth. Where AWS names no figure, `published` is False and the source says what is
assumed and why; an assumption is low rather than likely.

Services that call others for themselves (Auto Scaling, CloudFormation) have buckets of their own (Elastic
Load Balancing user guide, "Request throttling for the Elastic Load Balancing API") and take none of these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Params = Mapping[str, Any]


class UnknownLimitError(LookupError):
    """The action has no entry here."""


@dataclass(frozen=True)
class Limit:
    """How many tokens a bucket holds, and how many it gets back each second."""

    capacity: float
    refill_per_second: float
    source: str
    published: bool = True


@dataclass(frozen=True)
class Demand:
    """The tokens that one call takes from one bucket."""

    bucket: str
    limit: Limit
    tokens: float = 1.0


def _per_second(transactions: float, source: str, *, published: bool = True) -> Limit:
    return Limit(transactions, transactions, source, published)


_EC2_PAGE = "EC2 developer guide, Request throttling for the Amazon EC2 API"
_EC2_READS = Limit(100, 20, f"{_EC2_PAGE}: non-mutating actions")
_EC2_UNFILTERED = Limit(50, 10, f"{_EC2_PAGE}: unfiltered and unpaginated non-mutating actions")
_EC2_MUTATIONS = Limit(50, 5, f"{_EC2_PAGE}: mutating actions")
_EC2_OWN = {"ec2:TerminateInstances": Limit(100, 5, f"{_EC2_PAGE}: uncategorized actions")}
# Each instance of a call takes a token of these, beside the call's own.
_EC2_RESOURCES = {
    "ec2:StopInstances": Limit(1000, 20, f"{_EC2_PAGE}: resource token buckets"),
    "ec2:TerminateInstances": Limit(1000, 20, f"{_EC2_PAGE}: resource token buckets"),
}
_EC2_SMALLER_WHEN_UNFILTERED = frozenset(
    f"ec2:Describe{what}"
    for what in (
        "InstanceStatus",
        "Instances",
        "NetworkInterfaces",
        "SecurityGroups",
        "Snapshots",
        "SpotInstanceRequests",
        "Volumes",
    )
)

_ELB_PAGE = "Elastic Load Balancing user guide, Request throttling for the Elastic Load Balancing API"
_ELB_ALL = ("elasticloadbalancing", Limit(40, 10, f"{_ELB_PAGE}: account level, all actions"))
_ELB_READS = (
    ("elasticloadbalancing: non-mutating", Limit(40, 10, f"{_ELB_PAGE}: non-mutating")),
    _ELB_ALL,
)
_ELB_REGISTRATIONS = (
    ("elasticloadbalancing: registration", Limit(20, 4, f"{_ELB_PAGE}: registration")),
    _ELB_ALL,
)
_ELB_MUTATIONS = (("elasticloadbalancing: mutating", Limit(20, 3, f"{_ELB_PAGE}: mutating")), _ELB_ALL)

_AUTO_SCALING = (
    (
        "autoscaling",
        Limit(
            40,
            10,
            "EC2 Auto Scaling API reference, Welcome: actions share a bucket, whose size it does not say; "
            "taken as Elastic Load Balancing's for all its actions",
            published=False,
        ),
    ),
)

_SSM_PAGE = "Systems Manager endpoints and quotas"
_SSM_COMMANDS = _per_second(
    3,
    "no figure for Run Command; the lowest known of Systems Manager, PutParameter's, which AWS support named "
    "(github-aws-runners/terraform-aws-github-runner#2944)",
    published=False,
)
_SSM_READS = _per_second(
    10, "no figure for these; a quarter of what Parameter Store's reading calls share", published=False
)
_SSM_PARAMETERS = (
    ("ssm: reading parameters", _per_second(40, f"{_SSM_PAGE}: Parameter Store, default throughput")),
)

_LOGS_PAGE = "CloudWatch Logs endpoints and quotas"
_EVENTS_PUT = _per_second(
    400, "EventBridge quotas: PutEvents, where a Region is not named; 600 to 10,000 in the others"
)
_STS = (("sts", _per_second(600, "IAM and STS quotas: STS requests, shared by its actions")),)

_DYNAMODB_PAGE = "DynamoDB developer guide, on-demand capacity mode: initial throughput of a new table"
_DYNAMODB_WRITES = _per_second(4_000, f"{_DYNAMODB_PAGE}, write request units")
_DYNAMODB_READS = _per_second(12_000, f"{_DYNAMODB_PAGE}, read request units")
_DYNAMODB_CONTROL = _per_second(
    10, "DynamoDB quotas name none for DescribeTable; far below its control plane's", published=False
)
_DYNAMODB_WRITING = frozenset(
    f"dynamodb:{name}"
    for name in ("BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem")
)
_DYNAMODB_READING = frozenset(
    f"dynamodb:{name}" for name in ("BatchGetItem", "GetItem", "Query", "Scan", "TransactGetItems")
)

_S3_PAGE = "S3 user guide, Best practices design patterns: optimizing performance, per prefix"
_S3_WRITES = _per_second(3_500, f"{_S3_PAGE}: PUT, COPY, POST, DELETE")
_S3_READS = _per_second(5_500, f"{_S3_PAGE}: GET, HEAD")
_S3_WRITING = frozenset({"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:PutObject"})
_S3_READING = frozenset({"s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket"})

# AWS bounds no action of a standard queue (SQS developer guide, standard queues).
_UNLIMITED = frozenset(
    f"sqs:{name}"
    for name in (
        "ChangeMessageVisibility",
        "DeleteMessage",
        "GetQueueAttributes",
        "GetQueueUrl",
        "ReceiveMessage",
        "SendMessage",
    )
)

Bucket = tuple[str, Limit]

# Actions with a bucket of their own.
_OWN: Mapping[str, Limit] = {
    "cloudwatch:PutMetricData": _per_second(500, "CloudWatch service quotas: rate of PutMetricData requests"),
    "ecr:GetAuthorizationToken": _per_second(
        500, "ECR endpoints and quotas: rate of GetAuthorizationToken requests"
    ),
    "events:PutEvents": _EVENTS_PUT,
    "lambda:InvokeFunction": _per_second(
        10_000, "Lambda quotas: synchronous invocations, ten times the default concurrency of 1,000"
    ),
    "logs:CreateLogStream": _per_second(50, f"{_LOGS_PAGE}: CreateLogStream"),
    "logs:PutLogEvents": _per_second(5_000, f"{_LOGS_PAGE}: PutLogEvents"),
    "secretsmanager:GetSecretValue": _per_second(
        10_000, "Secrets Manager quotas: DescribeSecret and GetSecretValue, combined"
    ),
    "ssm:CancelCommand": _SSM_COMMANDS,
    "ssm:DescribeInstanceInformation": _SSM_READS,
    "ssm:GetCommandInvocation": _SSM_READS,
    "ssm:ListCommandInvocations": _SSM_READS,
    "ssm:ListCommands": _SSM_READS,
    "ssm:SendCommand": _SSM_COMMANDS,
    "tag:GetResources": _per_second(
        5, "no figure for the Resource Groups Tagging API; half of what other reads have", published=False
    ),
}
# Actions that share buckets with others.
_SHARED: Mapping[str, tuple[Bucket, ...]] = {
    "elasticloadbalancing:DeregisterTargets": _ELB_REGISTRATIONS,
    "elasticloadbalancing:DescribeTags": _ELB_READS,
    "elasticloadbalancing:DescribeTargetGroups": _ELB_READS,
    "elasticloadbalancing:DescribeTargetHealth": _ELB_READS,
    "elasticloadbalancing:ModifyTargetGroup": _ELB_MUTATIONS,
    "elasticloadbalancing:ModifyTargetGroupAttributes": _ELB_MUTATIONS,
    "elasticloadbalancing:RegisterTargets": _ELB_REGISTRATIONS,
    "ssm:GetParameter": _SSM_PARAMETERS,
    "ssm:GetParameters": _SSM_PARAMETERS,
    "ssm:GetParametersByPath": _SSM_PARAMETERS,
}


def demands_of(action: str, params: Params) -> tuple[Demand, ...]:
    """Return what a call takes from which buckets; nothing where AWS has no limit.

    `action` is its IAM action. Raises `UnknownLimitError`.
    """
    if action in _UNLIMITED:
        return ()
    match action.partition(":")[0]:
        case "autoscaling":
            return _each(_AUTO_SCALING)
        case "dynamodb":
            return tuple(_dynamodb(action, params))
        case "ec2":
            return tuple(_ec2(action, params))
        case "s3":
            return tuple(_s3(action, params))
        case "sts":
            return _each(_STS)
    if action in _OWN:
        return (Demand(action, _OWN[action]),)
    if action in _SHARED:
        return _each(_SHARED[action])
    raise UnknownLimitError(action)


def _each(buckets: tuple[Bucket, ...]) -> tuple[Demand, ...]:
    return tuple(Demand(bucket, limit) for bucket, limit in buckets)


def _ec2(action: str, params: Params) -> Iterable[Demand]:
    """Each action has buckets of its own; a filter or a page's size leads to the larger of two."""
    operation = action.partition(":")[2]
    if not operation.startswith(("Describe", "Get", "List", "Search")):
        yield Demand(action, _EC2_OWN.get(action, _EC2_MUTATIONS))
    elif action in _EC2_SMALLER_WHEN_UNFILTERED and not (params.get("Filters") or params.get("MaxResults")):
        yield Demand(f"{action}, unfiltered", _EC2_UNFILTERED)
    else:
        yield Demand(action, _EC2_READS)
    if action in _EC2_RESOURCES:
        yield Demand(f"{action}, instances", _EC2_RESOURCES[action], len(params.get("InstanceIds", ())))


def _dynamodb(action: str, params: Params) -> Iterable[Demand]:
    """Each table has buckets of its own. Answers are not seen here: a read is one unit for each key."""
    if action == "dynamodb:DescribeTable":
        yield Demand(action, _DYNAMODB_CONTROL)
    elif action in _DYNAMODB_WRITING:
        for table, units in _units(action, params).items():
            yield Demand(f"dynamodb: writes to {table}", _DYNAMODB_WRITES, units)
    elif action in _DYNAMODB_READING:
        for table, units in _units(action, params).items():
            yield Demand(f"dynamodb: reads from {table}", _DYNAMODB_READS, units)
    else:
        raise UnknownLimitError(action)


def _units(action: str, params: Params) -> Mapping[str, float]:
    """Return a call's request units by table (DynamoDB developer guide, "Read and write operations")."""
    units: dict[str, float] = {}
    match action.partition(":")[2]:
        case "BatchWriteItem":
            for table, requests in params["RequestItems"].items():
                units[table] = sum(_write_units(request.get("PutRequest", {})) for request in requests)
        case "BatchGetItem":
            units = {table: len(request["Keys"]) for table, request in params["RequestItems"].items()}
        case "TransactWriteItems" | "TransactGetItems":
            for item in params["TransactItems"]:
                for each in item.values():
                    # A transaction's items count twice: once to prepare, once to commit.
                    units[each["TableName"]] = units.get(each["TableName"], 0) + 2 * _write_units(each)
        case _:
            units[params["TableName"]] = _write_units(params)
    return units


def _write_units(request: Params) -> int:
    """One for each KB begun of the item, by its JSON; one where the call does not carry the whole item."""
    item = request.get("Item")
    return 1 if item is None else math.ceil(len(json.dumps(item, default=str)) / 1024)


def _s3(action: str, params: Params) -> Iterable[Demand]:
    """A bucket of S3 that has not been scaled up is one prefix."""
    if action in _S3_WRITING:
        yield Demand(f"s3: writes to {params['Bucket']}", _S3_WRITES)
    elif action in _S3_READING:
        yield Demand(f"s3: reads from {params['Bucket']}", _S3_READS)
    else:
        raise UnknownLimitError(action)
