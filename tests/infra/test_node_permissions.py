"""What a node may do: its own fleet's things, and not another's; judged as IAM judges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from infra.names import ASSET_PREFIX, NODE_EVENTS
from local_aws.iam.policy import Decision, Request, evaluate, parse_policy
from tests.infra.conftest import SECRET_ARN
from tests.infra.templates import Template

ACCOUNT = "us-east-1:123456789012"
GROUP = f"arn:aws:autoscaling:{ACCOUNT}:autoScalingGroup:0f1e2d3c:autoScalingGroupName/spot-failover-"
LOGS = f"arn:aws:logs:{ACCOUNT}:log-group:"
BUS = f"arn:aws:events:{ACCOUNT}:event-bus/"
SECRET = f"arn:aws:secretsmanager:{ACCOUNT}:secret:"
AGENTS = "arn:aws:s3:::cdk-hnb659fds-assets-123456789012-us-east-1"
OWN_REPORT = {"events:source": ["spot-failover.node"], "events:detail-type": [NODE_EVENTS[0]]}


def node_role(fleet: Template) -> str:
    (profile,) = fleet.resources("AWS::IAM::InstanceProfile").values()
    return str(profile["Roles"][0]["Ref"])


def weights_readers(fleet: Template) -> list[str]:
    """Return the roles that another role may take on."""
    return [
        name
        for name, role in fleet.resources("AWS::IAM::Role").items()
        if "AWS" in role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    ]


def own_bucket(fleet: Template) -> str:
    (name,) = fleet.resources("AWS::S3::Bucket")
    return f"arn:aws:s3:::<{name}>"


def decide(
    fleet: Template, role: str, action: str, arn: str, context: Mapping[str, Any] | None = None
) -> Decision:
    """Judge one call by the role's own policies; a reference reads as the ARN that it will be."""
    log_groups = {
        f"<{name}.Arn>": f"{LOGS}{group['LogGroupName']}:*"
        for name, group in fleet.resources("AWS::Logs::LogGroup").items()
        if "LogGroupName" in group
    }
    statements = [
        {
            "Effect": statement.effect,
            "Action": statement.actions,
            "Resource": [log_groups.get(arn, _bucket_arn(arn)) for arn in statement.resources],
            "Condition": statement.conditions,
        }
        for statement in fleet.statements(role)
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return evaluate([parse_policy(document)], Request(action, arn, context or {}))


def _bucket_arn(text: str) -> str:
    if not text.startswith("<") or ".Arn>" not in text:
        return text
    return "arn:aws:s3:::" + text.replace(".Arn>", ">")


Call = tuple[str, str, dict[str, Any]]
ALLOWED: dict[str, Call] = {
    "complete its hook": ("autoscaling:CompleteLifecycleAction", f"{GROUP}default", {}),
    "ask for its replacement": ("autoscaling:SetInstanceHealth", f"{GROUP}default", {}),
    "open its log": ("logs:CreateLogStream", f"{LOGS}/spot-failover/nodes/default:*", {}),
    "write its log": (
        "logs:PutLogEvents",
        f"{LOGS}/spot-failover/nodes/default:log-stream:i-0123456789abcdef0",
        {},
    ),
    "fetch any version's agent": ("s3:GetObject", f"{AGENTS}/{ASSET_PREFIX}0123abcd.zip", {}),
    "read a compile cache": ("s3:GetObject", "BUCKET/compile-cache/0123.tar.gz", {}),
    "keep a compile cache": ("s3:PutObject", "BUCKET/compile-cache/0123.tar.gz", {}),
    "learn that there is no compile cache": ("s3:ListBucket", "BUCKET", {}),
} | {
    f"report {name.removeprefix('Spot Failover Node ').lower()}": (
        "events:PutEvents",
        f"{BUS}default",
        {**OWN_REPORT, "events:detail-type": [name]},
    )
    for name in NODE_EVENTS
}
DENIED: dict[str, Call] = {
    "another fleet's hook": ("autoscaling:CompleteLifecycleAction", f"{GROUP}public", {}),
    "a fleet's whose name begins with its own": (
        "autoscaling:SetInstanceHealth",
        f"{GROUP}default-2",
        {},
    ),
    "its own group's size": ("autoscaling:SetDesiredCapacity", f"{GROUP}default", {}),
    "another fleet's log": (
        "logs:PutLogEvents",
        f"{LOGS}/spot-failover/nodes/public:log-stream:i-0123456789abcdef0",
        {},
    ),
    "a function's log": (
        "logs:PutLogEvents",
        f"{LOGS}/spot-failover/track_incident:log-stream:2026/11/25",
        {},
    ),
    "reading its own log": ("logs:GetLogEvents", f"{LOGS}/spot-failover/nodes/default:log-stream:i-0", {}),
    "an event in AWS's name": (
        "events:PutEvents",
        f"{BUS}default",
        {**OWN_REPORT, "events:source": ["aws.ec2"]},
    ),
    "an event in its own name and one in another's": (
        "events:PutEvents",
        f"{BUS}default",
        {**OWN_REPORT, "events:source": ["spot-failover.node", "com.example.billing"]},
    ),
    "an event of another kind": (
        "events:PutEvents",
        f"{BUS}default",
        {**OWN_REPORT, "events:detail-type": ["EC2 Spot Instance Interruption Warning"]},
    ),
    "an event of no name": ("events:PutEvents", f"{BUS}default", {}),
    "another bus": ("events:PutEvents", f"{BUS}billing", OWN_REPORT),
    "another bucket's compile cache": ("s3:GetObject", "arn:aws:s3:::other/compile-cache/0123.tar.gz", {}),
    "its own bucket beside the compile caches": ("s3:PutObject", "BUCKET/index.html", {}),
    "deleting a compile cache": ("s3:DeleteObject", "BUCKET/compile-cache/0123.tar.gz", {}),
    "changing the agent": ("s3:PutObject", f"{AGENTS}/{ASSET_PREFIX}0123abcd.zip", {}),
    "the code of another app": ("s3:GetObject", f"{AGENTS}/0123abcd.zip", {}),
    "a template": ("s3:GetObject", f"{AGENTS}/{ASSET_PREFIX}0123abcd.json", {}),
    "listing what the CDK deploys": ("s3:ListBucket", AGENTS, {}),
    "weights, where it has none in S3": ("s3:GetObject", "arn:aws:s3:::our-models/org/chat/config.json", {}),
    "another fleet's API key": ("secretsmanager:GetSecretValue", SECRET_ARN, {}),
    "another's role": ("sts:AssumeRole", "arn:aws:iam::123456789012:role/admin", {}),
    "the fleet's instances": ("ec2:TerminateInstances", f"arn:aws:ec2:{ACCOUNT}:instance/i-0", {}),
}


@pytest.mark.parametrize(("action", "arn", "context"), ALLOWED.values(), ids=ALLOWED)
def test_a_node_may(fleet: Template, action: str, arn: str, context: dict[str, Any]) -> None:
    arn = arn.replace("BUCKET", own_bucket(fleet))
    assert decide(fleet, node_role(fleet), action, arn, context) is Decision.ALLOW


@pytest.mark.parametrize(("action", "arn", "context"), DENIED.values(), ids=DENIED)
def test_a_node_may_not(fleet: Template, action: str, arn: str, context: dict[str, Any]) -> None:
    arn = arn.replace("BUCKET", own_bucket(fleet))
    assert decide(fleet, node_role(fleet), action, arn, context) is Decision.IMPLICIT_DENY


def test_nothing_but_the_systems_manager_agents_policy_is_granted_beside_that(fleet: Template) -> None:
    role = fleet.body["Resources"][node_role(fleet)]["Properties"]
    assert [fleet.text(arn) for arn in role["ManagedPolicyArns"]] == [
        "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    ]
    statements = fleet.statements(node_role(fleet))
    granted = {
        action for statement in statements if statement.effect == "Allow" for action in statement.actions
    }
    assert granted == {action for action, _, _ in ALLOWED.values()}


@pytest.mark.parametrize(
    "action", ["GetParameter", "GetParameters", "GetParametersByPath", "GetParameterHistory"]
)
def test_a_node_reads_no_parameter_though_aws_own_policy_allows_every_one(
    fleet: Template, action: str
) -> None:
    arn = f"arn:aws:ssm:{ACCOUNT}:parameter/ours/password"
    assert decide(fleet, node_role(fleet), f"ssm:{action}", arn) is Decision.EXPLICIT_DENY


@pytest.mark.parametrize("name", ["fleet", "public_fleet", "fleet_in_existing_vpc"])
def test_every_wildcard_ends_a_name_that_is_the_fleets_own(name: str, request: pytest.FixtureRequest) -> None:
    """AWS forces none: what is not known at deployment is the group's id and what objects are called."""
    fleet: Template = request.getfixturevalue(name)
    for role in (node_role(fleet), *weights_readers(fleet)):
        for statement in fleet.statements(role):
            if statement.effect == "Deny":
                continue
            for resource in statement.resources:
                assert resource != "*"
                known = resource.replace("autoScalingGroup:*:", "").replace(f"/{ASSET_PREFIX}*.zip", "")
                assert "*" not in known.removesuffix("*")


def test_without_compile_caches_there_is_no_bucket_and_no_right_to_one(
    fleet_in_existing_vpc: Template,
) -> None:
    fleet = fleet_in_existing_vpc
    assert not fleet.resources("AWS::S3::Bucket")
    granted = {action for s in fleet.statements(node_role(fleet)) for action in s.actions}
    assert "s3:PutObject" not in granted


@pytest.mark.parametrize(
    ("action", "arn", "context", "decision"),
    [
        ("s3:GetObject", "our-models/org/chat/config.json", {}, Decision.ALLOW),
        ("s3:ListBucket", "our-models", {"s3:prefix": "org/chat/"}, Decision.ALLOW),
        ("s3:ListBucket", "our-models", {"s3:prefix": "org/chat"}, Decision.ALLOW),
        ("s3:GetObject", "our-models/org/chat-large/config.json", {}, Decision.IMPLICIT_DENY),
        ("s3:ListBucket", "our-models", {"s3:prefix": "org/"}, Decision.IMPLICIT_DENY),
        ("s3:ListBucket", "our-models", {}, Decision.IMPLICIT_DENY),
        ("s3:PutObject", "our-models/org/chat/config.json", {}, Decision.IMPLICIT_DENY),
        ("s3:GetObject", "others/org/chat/config.json", {}, Decision.IMPLICIT_DENY),
    ],
)
def test_a_node_and_its_weights_reader_read_the_weights_and_nothing_beside_them(
    public_fleet: Template, action: str, arn: str, context: dict[str, Any], decision: Decision
) -> None:
    (reader,) = weights_readers(public_fleet)
    for role in (node_role(public_fleet), reader):
        assert decide(public_fleet, role, action, f"arn:aws:s3:::{arn}", context) is decision


def test_an_engine_that_streams_gets_a_role_that_reads_weights_and_only_nodes_may_lend_it(
    public_fleet: Template,
) -> None:
    (reader,) = weights_readers(public_fleet)
    granted = {action for s in public_fleet.statements(reader) for action in s.actions}
    assert granted == {"s3:GetObject", "s3:ListBucket"}
    properties = public_fleet.body["Resources"][reader]["Properties"]
    assert "ManagedPolicyArns" not in properties
    (trust,) = properties["AssumeRolePolicyDocument"]["Statement"]
    node = node_role(public_fleet)
    assert (trust["Effect"], trust["Action"]) == ("Allow", "sts:AssumeRole")
    assert trust["Principal"] == {"AWS": {"Fn::GetAtt": [node, "Arn"]}}
    lent = [s.resources for s in public_fleet.statements(node) if s.actions == ("sts:AssumeRole",)]
    assert lent == [(f"<{reader}.Arn>",)]


def test_the_first_nodes_wait_for_the_right_to_lend(public_fleet: Template) -> None:
    (group,) = (
        r
        for r in public_fleet.body["Resources"].values()
        if r["Type"] == "AWS::AutoScaling::AutoScalingGroup"
    )
    lend = [
        name
        for name, policy in public_fleet.resources("AWS::IAM::Policy").items()
        if {"Ref": node_role(public_fleet)} in policy["Roles"]
    ]
    assert len(lend) == 1
    assert set(lend) <= set(group["DependsOn"])


@pytest.mark.parametrize("name", ["fleet", "fleet_in_existing_vpc"])
def test_weights_that_are_not_streamed_need_no_second_role(name: str, request: pytest.FixtureRequest) -> None:
    assert weights_readers(request.getfixturevalue(name)) == []


def test_a_node_reads_its_own_fleets_api_key_and_no_other(public_fleet: Template) -> None:
    role = node_role(public_fleet)
    read = "secretsmanager:GetSecretValue"
    assert decide(public_fleet, role, read, SECRET_ARN) is Decision.ALLOW
    assert decide(public_fleet, role, read, f"{SECRET}other-key-AbCdEf") is Decision.IMPLICIT_DENY
    assert decide(public_fleet, role, "secretsmanager:PutSecretValue", SECRET_ARN) is Decision.IMPLICIT_DENY
