"""Who may come in: nobody invokes a function, and only the control plane's own rules fill its queues."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.iam.policy import Decision, Request, evaluate, parse_policy
from tests.local.faults.plane import FUNCTIONS, Plane

ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def rules(plane: Plane) -> dict[str, set[str]]:
    """Return the rules' ARNs by the queue that each is a target of."""
    events = plane.aws.client("events")
    found: dict[str, set[str]] = {}
    for rule in events.list_rules()["Rules"]:
        for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
            found.setdefault(target["Arn"], set()).add(rule["Arn"])
    return found


def queue(plane: Plane, url: str) -> tuple[str, str]:
    """Return a queue's ARN and policy."""
    answer = plane.aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return answer["Attributes"]["QueueArn"], answer["Attributes"].get("Policy", "{}")


def decide(policy: str, arn: str, *, action: str = "sqs:SendMessage", **asker: Any) -> Decision:
    context = {"aws:SecureTransport": "true", "aws:SourceAccount": ACCOUNT, **asker.pop("context", {})}
    return evaluate([parse_policy(policy)], Request(action=action, resource=arn, context=context, **asker))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nobody_is_let_invoke_a_function(plane: Plane, function: str) -> None:
    client = plane.aws.client("lambda")
    name = f"spot-failover-{function}"
    with pytest.raises(ClientError) as refused:
        client.get_policy(FunctionName=name)
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"
    with pytest.raises(ClientError) as missing:
        client.get_function_url_config(FunctionName=name)
    assert missing.value.response["Error"]["Code"] == "ResourceNotFoundException"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_queue_is_filled_by_its_own_rules_alone(
    plane: Plane, rules: dict[str, set[str]], function: str
) -> None:
    arn, policy = queue(plane, plane.drivers[function].queue_url)
    service = "events.amazonaws.com"
    assert rules[arn], "a queue that no rule fills"
    for rule in rules[arn]:
        assert decide(policy, arn, service=service, context={"aws:SourceArn": rule}) is Decision.ALLOW
    for context in (
        {"aws:SourceArn": f"arn:aws:events:us-east-1:{ACCOUNT}:rule/somebodys"},
        {"aws:SourceArn": "arn:aws:events:us-east-1:999999999999:rule/somebodys"},
        {},
    ):
        assert decide(policy, arn, service=service, context=context) is not Decision.ALLOW
    for other in ("sns.amazonaws.com", "s3.amazonaws.com", "lambda.amazonaws.com"):
        context = {"aws:SourceArn": next(iter(rules[arn]))}
        assert decide(policy, arn, service=other, context=context) is not Decision.ALLOW
    for principal in (f"arn:aws:iam::{ACCOUNT}:role/somebody", "arn:aws:iam::999999999999:role/stranger"):
        for action in ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:PurgeQueue"):
            assert decide(policy, arn, action=action, principal=principal) is not Decision.ALLOW


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_queue_is_spoken_to_in_private_only(plane: Plane, function: str) -> None:
    for url in (plane.drivers[function].queue_url, plane.drivers[function].dead_letters_url):
        arn, policy = queue(plane, url)
        plain = {"aws:SecureTransport": "false"}
        for principal in (f"arn:aws:iam::{ACCOUNT}:role/somebody",):
            assert decide(policy, arn, principal=principal, context=plain) is Decision.EXPLICIT_DENY


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_dead_letters_are_let_in_by_no_policy_of_their_queue(plane: Plane, function: str) -> None:
    arn, policy = queue(plane, plane.drivers[function].dead_letters_url)
    allows = [one for one in json.loads(policy).get("Statement", []) if one["Effect"] == "Allow"]
    assert allows == []
    assert arn.endswith("-dead-letters")


def test_the_table_is_shared_with_nobody(plane: Plane) -> None:
    """No resource policy: a principal needs a permission of its own, and only functions' roles have one."""
    iam = plane.aws.client("iam")
    table = plane.aws.client("dynamodb").describe_table(TableName=plane.table)["Table"]["TableArn"]
    writers = set()
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        documents = [
            iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
        ]
        for action in ("dynamodb:PutItem", "dynamodb:BatchWriteItem", "dynamodb:UpdateItem"):
            request = Request(action=action, resource=table, context={})
            if evaluate([parse_policy(one) for one in documents], request) is Decision.ALLOW:
                writers.add(name)
    functions = plane.aws.client("lambda").list_functions()["Functions"]
    assert writers <= {str(one["Role"]).rsplit("/", 1)[-1] for one in functions}
    assert len(writers) >= len(FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_only_lambda_takes_on_a_functions_role(plane: Plane, function: str) -> None:
    configuration = plane.aws.client("lambda").get_function_configuration(
        FunctionName=f"spot-failover-{function}"
    )
    role = plane.aws.client("iam").get_role(RoleName=str(configuration["Role"]).rsplit("/", 1)[-1])["Role"]
    principals = [one["Principal"] for one in role["AssumeRolePolicyDocument"]["Statement"]]
    assert principals == [{"Service": "lambda.amazonaws.com"}]
