"""A local AWS for each module, and functions made by hand: no CDK, so that a test takes seconds."""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_aws.session import LocalAws

LAMBDA_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}

# Makes the AWS call that the event asks for, and says how it ended.
CALLER = """
import boto3, botocore.exceptions, botocore.config
def handler(event, context):
    client = boto3.client(event["service"], config=botocore.config.Config(retries={"total_max_attempts": 1}))
    try:
        getattr(client, event["operation"])(**event["params"])
    except botocore.exceptions.ClientError as err:
        status = err.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"status": status, **err.response["Error"]}
    return {"Code": "ok"}
"""


@dataclass(frozen=True)
class Bench:
    """A local AWS and what the tests of this folder make in it."""

    aws: LocalAws

    def role(self, name: str, *statements: dict[str, Any], trust: dict[str, Any] | None = None) -> str:
        iam = self.aws.client("iam")
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust or LAMBDA_TRUST))
        if statements:
            document = {"Version": "2012-10-17", "Statement": list(statements)}
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(document))
        return str(role["Role"]["Arn"])

    def function(
        self, name: str, source: str, *statements: dict[str, Any], role: str = "", **settings: Any
    ) -> str:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("index.py", source)
        made = self.aws.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler="index.handler",
            Role=role or self.role(f"{name}-role", *statements),
            Code={"ZipFile": archive.getvalue()},
            **{"Timeout": 30, **settings},
        )
        return str(made["FunctionArn"])

    def invoke(self, name: str, event: Any = None) -> tuple[Any, str | None]:
        """Return the payload and the function error."""
        answer = self.aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read() or b"null"), answer.get("FunctionError")

    def call(self, function: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        """Let a CALLER function make one AWS call."""
        payload, error = self.invoke(function, {"service": service, "operation": operation, "params": params})
        assert error is None, payload
        assert isinstance(payload, dict)
        return payload

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """Return a queue's URL and ARN."""
        client = self.aws.client("sqs")
        url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    def waiting(self, url: str) -> list[str]:
        """Receive the bodies of what is visible in a queue."""
        messages = self.aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return [message["Body"] for message in messages.get("Messages", [])]


def eventually(what: Callable[[], Any], *, seconds: float = 15.0) -> Any:
    """Return the first truthy answer; fail when there is none in time."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if answer := what():
            return answer
        time.sleep(0.02)
    pytest.fail(f"not so within {seconds:.0f} s")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    state: Path = tmp_path_factory.mktemp("local-aws")
    with LocalAws(state) as aws:
        yield Bench(aws)


@pytest.fixture(scope="session")
def soon() -> Callable[..., Any]:
    return eventually


@pytest.fixture(scope="session")
def caller_source() -> str:
    return CALLER


@pytest.fixture(scope="session")
def make_bench() -> Callable[[LocalAws], Bench]:
    return Bench


@pytest.fixture(scope="session")
def python() -> str:
    return sys.executable
