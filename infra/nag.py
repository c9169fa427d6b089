"""cdk-nag: every finding is either fixed or acknowledged, beside the resource, with its reason."""

from __future__ import annotations

from typing import Any

from aws_cdk import Acknowledgment, App, Stack, Validations
from aws_cdk import aws_iam as iam
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct


def check(app: App) -> None:
    """Run the AWS Solutions rules at every synth; a finding without an acknowledgment fails it."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def acknowledge(construct: IConstruct, reason: str, *findings: str) -> None:
    """Accept findings (`AS3`, `IAM5[...]`) on a construct and below it, for a reason that holds for each."""
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=f"AwsSolutions-{finding}", reason=reason) for finding in findings)
    )


def wildcards(construct: IConstruct, statements: list[iam.PolicyStatement]) -> list[str]:
    """Return the finding for each resource of the statements that holds a wildcard, and for none else."""
    stack = Stack.of(construct)
    resources = [
        _as_cdk_nag_writes(stack.resolve(arn)) for statement in statements for arn in statement.resources
    ]
    return sorted({f"IAM5[Resource::{arn}]" for arn in resources if "*" in arn})


def _as_cdk_nag_writes(arn: Any) -> str:
    match arn:
        case str():
            return arn
        case {"Fn::Sub": text}:
            return str(text).replace("${", "<").replace("}", ">")
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [resource, attribute]}:
            return f"<{resource}.{attribute}>"
        case {"Fn::Join": ["", parts]}:
            return "".join(_as_cdk_nag_writes(part) for part in parts)
    raise TypeError(f"an ARN of an unknown form: {arn!r}")
