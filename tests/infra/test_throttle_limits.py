"""What functions and nodes are granted can be played under AWS's limits."""

from __future__ import annotations

import pytest

from local_aws.iam.resources import known_actions
from tests.infra.templates import Template


def granted_to(template: Template, service: str) -> set[str]:
    """Return what the own policies of the roles that a service assumes allow."""
    return {
        action
        for name, role in template.resources("AWS::IAM::Role").items()
        for trust in role["AssumeRolePolicyDocument"]["Statement"]
        if trust["Principal"].get("Service") == service
        for statement in template.statements(name)
        if statement.effect == "Allow"
        for action in statement.actions
    }


@pytest.fixture(scope="module")
def granted(
    control_plane: Template, fleet: Template, fleet_in_existing_vpc: Template, public_fleet: Template
) -> set[str]:
    functions = granted_to(control_plane, "lambda.amazonaws.com")
    nodes = [granted_to(each, "ec2.amazonaws.com") for each in (fleet, fleet_in_existing_vpc, public_fleet)]
    assert "ssm:SendCommand" in functions
    assert all("autoscaling:CompleteLifecycleAction" in each for each in nodes)
    return functions.union(*nodes)


def test_everything_granted_has_a_limit(granted: set[str]) -> None:
    """`known_actions` have one each (unit tests); what is granted must be among them."""
    assert granted - known_actions() == set()
