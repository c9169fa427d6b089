"""Who may come in: nobody invokes a function, and only the control plane's own rules fill its queues."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.iam.policy import Decision, Request, evaluate, parse_policy
from tests.local.faults.plane import FUNCTIONS, Plane
from tests.local.security.outside import ROLES

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


@pytest.mark.parametrize("function", ROLES)
def test_no_function_lets_anybody_in(plane: Plane, function: str) -> None:
    """Without a policy of its own a function is invoked by who has a permission for it, and nobody else."""
    with pytest.raises(ClientError) as refused:
        plane.aws.client("lambda").get_policy(FunctionName=f"spot-failover-{function}")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_the_sweepers_schedule_alone_is_given_a_permission_to_invoke(plane: Plane) -> None:
    functions = plane.aws.client("lambda").list_functions()["Functions"]
    invokers: dict[str, set[str]] = {}
    for role, documents in roles(plane).items():
        for function in functions:
            request = Request(action="lambda:InvokeFunction", resource=function["FunctionArn"])
            if evaluate([parse_policy(one) for one in documents], request) is Decision.ALLOW:
                invokers.setdefault(role, set()).add(function["FunctionName"])
    ((role, invoked),) = invokers.items()
    assert invoked == {"spot-failover-sweep_incidents"}
    trust = plane.aws.client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def roles(plane: Plane) -> dict[str, list[Any]]:
    """Return every role's own policies, by its name."""
    iam = plane.aws.client("iam")
    return {
        role["RoleName"]: [
            iam.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        ]
        for role in iam.list_roles()["Roles"]
        if not role["RoleName"].startswith("cdk-")  # who deploys may do everything
    }


def test_no_function_has_an_address_of_its_own(plane: Plane) -> None:
    kinds = {one["ResourceType"] for one in resources(plane)}
    assert "AWS::Lambda::Function" in kinds
    assert not kinds & {"AWS::Lambda::Url", "AWS::ApiGateway::RestApi", "AWS::ApiGatewayV2::Api"}


def resources(plane: Plane) -> list[dict[str, Any]]:
    """Return what the control plane's stack consists of."""
    answer = plane.aws.client("cloudformation").list_stack_resources(StackName="SpotFailoverControlPlane")
    found: list[dict[str, Any]] = answer["StackResourceSummaries"]
    return found


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dead_letters", [False, True], ids=["queue", "dead letters"])
def test_a_queue_is_filled_by_its_functions_own_rules_alone(
    plane: Plane, rules: dict[str, set[str]], function: str, dead_letters: bool
) -> None:
    """The dead letters too: EventBridge leaves there what it could not deliver."""
    driver = plane.drivers[function]
    own = rules[queue(plane, driver.queue_url)[0]]
    arn, policy = queue(plane, driver.dead_letters_url if dead_letters else driver.queue_url)
    service = "events.amazonaws.com"
    assert own, "a queue that no rule fills"
    for rule in own:
        assert decide(policy, arn, service=service, context={"aws:SourceArn": rule}) is Decision.ALLOW
    others = set().union(*rules.values()) - own
    for source in (
        *others,
        f"arn:aws:events:us-east-1:{ACCOUNT}:rule/somebodys",
        "arn:aws:events:us-east-1:999999999999:rule/somebodys",
    ):
        asked = decide(policy, arn, service=service, context={"aws:SourceArn": source})
        assert asked is not Decision.ALLOW, source
    assert decide(policy, arn, service=service) is not Decision.ALLOW
    for other in ("sns.amazonaws.com", "s3.amazonaws.com", "lambda.amazonaws.com"):
        context = {"aws:SourceArn": next(iter(own))}
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


def test_the_table_is_shared_with_nobody(plane: Plane) -> None:
    """No resource policy: a principal needs a permission of its own, and only functions' roles have one."""
    table = plane.aws.client("dynamodb").describe_table(TableName=plane.table)["Table"]["TableArn"]
    writers = {
        name
        for name, documents in roles(plane).items()
        for action in ("dynamodb:PutItem", "dynamodb:BatchWriteItem", "dynamodb:UpdateItem")
        if evaluate([parse_policy(one) for one in documents], Request(action=action, resource=table))
        is Decision.ALLOW
    }
    functions = plane.aws.client("lambda").list_functions()["Functions"]
    assert writers == {str(one["Role"]).rsplit("/", 1)[-1] for one in functions if own(one)}


def own(function: dict[str, Any]) -> bool:
    """Whether a function is the control plane's, and not one that the CDK brings along."""
    return str(function["FunctionName"]).startswith("spot-failover-")


@pytest.mark.parametrize("function", ROLES)
def test_only_lambda_takes_on_a_functions_role(plane: Plane, function: str) -> None:
    configuration = plane.aws.client("lambda").get_function_configuration(
        FunctionName=f"spot-failover-{function}"
    )
    role = plane.aws.client("iam").get_role(RoleName=str(configuration["Role"]).rsplit("/", 1)[-1])["Role"]
    principals = [one["Principal"] for one in role["AssumeRolePolicyDocument"]["Statement"]]
    assert principals == [{"Service": "lambda.amazonaws.com"}]
