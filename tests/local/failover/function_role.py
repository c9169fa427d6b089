"""What a deployed function's role grants, what was called with it, and a way to take it."""

from __future__ import annotations

import json
from typing import Any

from tests.local.failover.deployed_fleet import DeployedFleet

# What a transaction needs is the permission for its items (DynamoDB developer guide, "IAM and transactions").
NEEDED_FOR = {"dynamodb:TransactWriteItems": "dynamodb:PutItem"}
DENIALS = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


class FunctionRole:
    """A deployed function's role: what it grants, what was called with it, and a way to take a permission."""

    def __init__(self, fleet: DeployedFleet, function: str) -> None:
        self._fleet = fleet
        self._iam = fleet.aws.client("iam")
        self.name = fleet.role_of(function)
        assert not self._iam.list_attached_role_policies(RoleName=self.name)["AttachedPolicies"]
        (self._policy_name,) = self._iam.list_role_policies(RoleName=self.name)["PolicyNames"]
        policy = self._iam.get_role_policy(RoleName=self.name, PolicyName=self._policy_name)
        self._document = policy["PolicyDocument"]

    def granted(self) -> set[str]:
        return {action for statement in self._document["Statement"] for action in _actions(statement)}

    def called(self, *, since: float = 0.0, denied: bool = False) -> set[str]:
        return {
            NEEDED_FOR.get(call["action"], call["action"])
            for call in self._fleet.control.calls(self.name)
            if call["at"] >= since and (call["result"] in DENIALS) is denied
        }

    def take(self, action: str) -> None:
        statements = []
        for statement in self._document["Statement"]:
            left = [one for one in _actions(statement) if one != action]
            statements += [{**statement, "Action": left}] if left else []
        self._put({**self._document, "Statement": statements})

    def restore(self) -> None:
        self._put(self._document)

    def _put(self, document: dict[str, Any]) -> None:
        self._iam.put_role_policy(
            RoleName=self.name, PolicyName=self._policy_name, PolicyDocument=json.dumps(document)
        )


def _actions(statement: dict[str, Any]) -> list[str]:
    actions = statement["Action"]
    return [actions] if isinstance(actions, str) else list(actions)
