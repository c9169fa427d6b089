"""Which resources an action works on, as IAM sees them: ARNs, and the tags that conditions ask for.

After the service authorization reference: https://docs.aws.amazon.com/service-authorization/latest/reference/.
An action that is not here is not allowed to any role: it has to be added together with its resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.elbv2.models import elbv2_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.sqs.models import sqs_backends

from local_aws.iam.policy import ContextValue
from local_aws.world import World

Params = Mapping[str, Any]


class UnknownActionError(LookupError):
    """The action has no entry here."""


@dataclass(frozen=True)
class Target:
    """An action on one resource. `arn` "*" is for actions without one."""

    action: str
    arn: str
    tags: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    """Condition keys that the call itself gives values to, beside the tags."""


# Actions that IAM does not bind to a resource.
_UNBOUND = frozenset(
    {
        "cloudwatch:PutMetricData",
        "ecr:GetAuthorizationToken",
        "ec2:DescribeInstances",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeTags",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLifecycleHooks",
        "autoscaling:DescribeScalingActivities",
        "autoscaling:DescribeTags",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "ssm:CancelCommand",
        "ssm:DescribeInstanceInformation",
        "ssm:GetCommandInvocation",
        "ssm:ListCommandInvocations",
        "ssm:ListCommands",
        "sts:GetCallerIdentity",
        "tag:GetResources",
    }
)
_GROUP_ACTIONS = frozenset(
    {
        "autoscaling:AttachInstances",
        "autoscaling:CompleteLifecycleAction",
        "autoscaling:DetachInstances",
        "autoscaling:EnterStandby",
        "autoscaling:ExitStandby",
        "autoscaling:RecordLifecycleActionHeartbeat",
        "autoscaling:SetDesiredCapacity",
        "autoscaling:SetInstanceHealth",
        "autoscaling:SetInstanceProtection",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
        "autoscaling:UpdateAutoScalingGroup",
    }
)
_TARGET_GROUP_ACTIONS = frozenset(
    {
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:ModifyTargetGroup",
        "elasticloadbalancing:ModifyTargetGroupAttributes",
        "elasticloadbalancing:RegisterTargets",
    }
)
_INSTANCE_ACTIONS = frozenset({"ec2:TerminateInstances", "ec2:StopInstances", "ec2:RebootInstances"})
_TRANSACT_ACTIONS = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
    "Get": "dynamodb:GetItem",
}
_TABLE_ACTIONS = frozenset(
    {
        "dynamodb:DeleteItem",
        "dynamodb:DescribeTable",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:Scan",
        "dynamodb:UpdateItem",
    }
)
_BUCKET_ACTIONS = frozenset({"s3:ListBucket", "s3:GetBucketLocation"})
_OBJECT_ACTIONS = frozenset({"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"})
_LOG_ACTIONS = frozenset({"logs:CreateLogStream", "logs:PutLogEvents"})
_QUEUE_ACTIONS = frozenset(
    {
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
    }
)


def known_actions() -> frozenset[str]:
    """Return the actions of every call that a role can be permitted here."""
    return _UNBOUND.union(*(actions for actions, _ in _FINDERS))


def targets_of(world: World, action: str, params: Params) -> list[Target]:
    """Return what has to be permitted for the call. Raises `UnknownActionError`."""
    if action in _UNBOUND:
        return [Target(action, "*")]
    for actions, find in _FINDERS:
        if action in actions:
            return list(find(world, action, params))
    raise UnknownActionError(action)


def _groups(world: World, action: str, params: Params) -> Iterable[Target]:
    backend = autoscaling_backends[world.account_id][world.region]
    name = params.get("AutoScalingGroupName")
    if name is None:
        member = backend.describe_auto_scaling_instances([params.get("InstanceId")])
        name = member[0].auto_scaling_group_name if member else "*"
    group = backend.autoscaling_groups.get(name)
    prefix = f"arn:aws:autoscaling:{world.region}:{world.account_id}:autoScalingGroup"
    if group is None:
        yield Target(action, f"{prefix}:*:autoScalingGroupName/{name}")
    else:
        tags = {tag.get("key", tag.get("Key")): tag.get("value", tag.get("Value")) for tag in group.tags}
        yield Target(action, group.arn, tags)


def _target_groups(world: World, action: str, params: Params) -> Iterable[Target]:
    backend = elbv2_backends[world.account_id][world.region]
    arn = params["TargetGroupArn"]
    yield Target(action, arn, backend.tagging_service.get_tag_dict_for_resource(arn))


def _instances(world: World, action: str, params: Params) -> Iterable[Target]:
    for instance_id in params.get("InstanceIds", ()):
        yield _instance(world, action, instance_id)


def _instance(world: World, action: str, instance_id: str) -> Target:
    backend = ec2_backends[world.account_id][world.region]
    tags = {tag["key"]: tag["value"] for tag in backend.describe_tags({"resource-id": [instance_id]})}
    return Target(action, f"arn:aws:ec2:{world.region}:{world.account_id}:instance/{instance_id}", tags)


def _command(world: World, action: str, params: Params) -> Iterable[Target]:
    # Both the document and every instance have to be permitted.
    name = params["DocumentName"]
    owner = "" if name.startswith("AWS-") else world.account_id
    document = name if name.startswith("arn:") else f"arn:aws:ssm:{world.region}:{owner}:document/{name}"
    yield Target(action, document)
    if params.get("Targets"):
        yield Target(action, f"arn:aws:ec2:{world.region}:{world.account_id}:instance/*")
    for instance_id in params.get("InstanceIds", ()):
        yield _instance(world, action, instance_id)


def _parameters(world: World, action: str, params: Params) -> Iterable[Target]:
    for name in params.get("Names") or [params.get("Name") or params.get("Path")]:
        owner = "" if name.startswith("/aws/") else world.account_id
        yield Target(action, f"arn:aws:ssm:{world.region}:{owner}:parameter/{name.lstrip('/')}")


def _tables(world: World, action: str, params: Params) -> Iterable[Target]:
    if action in ("dynamodb:BatchWriteItem", "dynamodb:BatchGetItem"):
        for name in params["RequestItems"]:
            yield _table(world, action, name)
    elif action in ("dynamodb:TransactWriteItems", "dynamodb:TransactGetItems"):
        # A transaction needs what its items need; there is no permission for the transaction itself.
        for item in params["TransactItems"]:
            for kind, each in item.items():
                yield _table(world, _TRANSACT_ACTIONS[kind], each["TableName"])
    else:
        yield _table(world, action, params["TableName"], params.get("IndexName"))


def _table(world: World, action: str, name: str, index: str | None = None) -> Target:
    arn = (
        name
        if name.startswith("arn:")
        else f"arn:aws:dynamodb:{world.region}:{world.account_id}:table/{name}"
    )
    return Target(action, f"{arn}/index/{index}" if index else arn)


def _queues(world: World, action: str, params: Params) -> Iterable[Target]:
    name = params["QueueName"] if action == "sqs:GetQueueUrl" else params["QueueUrl"].rsplit("/", 1)[-1]
    queue = sqs_backends[world.account_id][world.region].queues.get(name)
    arn = f"arn:aws:sqs:{world.region}:{world.account_id}:{name}"
    yield Target(action, arn, queue.tags if queue is not None else {})


def _objects(_: World, action: str, params: Params) -> Iterable[Target]:
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    if action not in _BUCKET_ACTIONS:
        yield Target(action, f"{bucket}/{params['Key']}")
    elif params.get("Prefix") is None:
        yield Target(action, bucket)
    else:
        yield Target(action, bucket, context={"s3:prefix": params["Prefix"]})


def _buses(world: World, action: str, params: Params) -> Iterable[Target]:
    # One call may carry events of several sources: the keys have all their values.
    entries = params["Entries"]
    given = {
        "events:source": [entry["Source"] for entry in entries if entry.get("Source")],
        "events:detail-type": [entry["DetailType"] for entry in entries if entry.get("DetailType")],
    }
    context = {key: values for key, values in given.items() if values}
    for entry in entries:
        name = entry.get("EventBusName", "default").rsplit("/", 1)[-1]
        arn = f"arn:aws:events:{world.region}:{world.account_id}:event-bus/{name}"
        yield Target(action, arn, context=context)


def _log_streams(world: World, action: str, params: Params) -> Iterable[Target]:
    # AWS names the stream in its refusals of either; its ARN is what `log-group:NAME:*` covers.
    group = f"arn:aws:logs:{world.region}:{world.account_id}:log-group:{params['logGroupName']}"
    yield Target(action, f"{group}:log-stream:{params['logStreamName']}")


def _secret(world: World, action: str, params: Params) -> Iterable[Target]:
    wanted = params["SecretId"]
    secrets = secretsmanager_backends[world.account_id][world.region].secrets
    found = next((one for one in secrets.values() if wanted in (one.name, one.arn)), None)
    unknown = f"arn:aws:secretsmanager:{world.region}:{world.account_id}:secret:{wanted}"
    yield Target(action, str(found.arn) if found else wanted if wanted.startswith("arn:") else unknown)


def _role(_: World, action: str, params: Params) -> Iterable[Target]:
    yield Target(action, params["RoleArn"])


def _functions(world: World, action: str, params: Params) -> Iterable[Target]:
    name = params["FunctionName"].rsplit(":", 1)[-1]
    yield Target(action, f"arn:aws:lambda:{world.region}:{world.account_id}:function:{name}")


Finder = Callable[[World, str, Params], Iterable[Target]]

_FINDERS: tuple[tuple[frozenset[str], Finder], ...] = (
    (_GROUP_ACTIONS, _groups),
    (_TARGET_GROUP_ACTIONS, _target_groups),
    (_INSTANCE_ACTIONS, _instances),
    (frozenset({"ssm:SendCommand"}), _command),
    (frozenset({"ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"}), _parameters),
    (
        _TABLE_ACTIONS
        | {
            "dynamodb:BatchGetItem",
            "dynamodb:BatchWriteItem",
            "dynamodb:TransactGetItems",
            "dynamodb:TransactWriteItems",
        },
        _tables,
    ),
    (_QUEUE_ACTIONS, _queues),
    (_BUCKET_ACTIONS | _OBJECT_ACTIONS, _objects),
    (frozenset({"events:PutEvents"}), _buses),
    (_LOG_ACTIONS, _log_streams),
    (frozenset({"secretsmanager:GetSecretValue"}), _secret),
    (frozenset({"sts:AssumeRole"}), _role),
    (frozenset({"lambda:InvokeFunction"}), _functions),
)
