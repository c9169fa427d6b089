"""What Run Command may do on a node: drain it, and nothing else."""

from __future__ import annotations

from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.names import DRAIN_DOCUMENT_NAME

# [0-9] and not \d, which to some engines means every script's digits.
_ENTRY = "i-[0-9a-f]{8,17}@[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?Z"
# Instance ids and UTC times: nothing in it can end the shell's quotes. 50 is SendCommand's own limit.
DEADLINES_PATTERN = f"^{_ENTRY}(,{_ENTRY}){{0,49}}$"
# A node that joined without our user data may lack the agent: say so, better than the shell would.
_DRAIN_SCRIPT = [
    "command -v spot-failover-node > /dev/null || {"
    " echo 'spot-failover-node is not installed on this node: it cannot be drained' >&2; exit 127; }",
    "exec spot-failover-node drain --deadlines '{{ Deadlines }}'",
]


def drain_document(notice_seconds: int) -> dict[str, Any]:
    """Return the document's content. A drain ends by its own deadline; Run Command's limit is the net."""
    return {
        "schemaVersion": "2.2",
        "description": "Drain a vLLM node: refuse readiness, let running requests finish, stop the engine.",
        "parameters": {
            "Deadlines": {
                "type": "String",
                "description": "Comma-separated INSTANCE_ID@UTC_TIME; each node picks its own.",
                "allowedPattern": DEADLINES_PATTERN,
            }
        },
        "mainSteps": [
            {
                "action": "aws:runShellScript",
                "name": "drain",
                "precondition": {"StringEquals": ["platformType", "Linux"]},
                "inputs": {"timeoutSeconds": str(notice_seconds), "runCommand": _DRAIN_SCRIPT},
            }
        ],
    }


class NodeCommands(Construct):
    """The drain document."""

    def __init__(self, scope: Construct, construct_id: str, *, notice_seconds: int) -> None:
        super().__init__(scope, construct_id)
        self.drain_document_name = DRAIN_DOCUMENT_NAME
        self.drain_document_arn = Stack.of(self).format_arn(
            service="ssm", resource="document", resource_name=DRAIN_DOCUMENT_NAME
        )
        ssm.CfnDocument(
            self,
            "DrainNode",
            name=DRAIN_DOCUMENT_NAME,
            document_type="Command",
            target_type="/AWS::EC2::Instance",
            update_method="NewVersion",
            content=drain_document(notice_seconds),
        )
