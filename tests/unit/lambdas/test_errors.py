"""Errors of AWS are retried when, and only when, the same call can succeed a moment later."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from spot_failover.errors import PermanentAwsError, RetryableAwsError, aws_call, classify

from tests.unit.lambdas.fake_services import client_error


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("Throttling", 400),
        ("ThrottlingException", 400),
        ("RequestLimitExceeded", 503),
        ("ProvisionedThroughputExceededException", 400),
        ("TooManyRequestsException", 429),
        ("ResourceContention", 400),
        ("ScalingActivityInProgress", 400),
        ("InternalFailure", 500),
        ("SomethingNobodyHeardOf", 503),
        ("SomethingNobodyHeardOf", 429),
        ("InvocationDoesNotExist", 400),
        ("TargetGroupNotFound", 400),
    ],
)
def test_what_passes_by_itself_is_retryable(code: str, status: int) -> None:
    error = classify(client_error("Op", code, status=status), action="service:Op")
    assert isinstance(error, RetryableAwsError)
    assert error.code == code


@pytest.mark.parametrize(
    "code",
    ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "ValidationError", "InvalidTarget"],
)
def test_what_aws_refuses_is_permanent(code: str) -> None:
    assert isinstance(classify(client_error("Op", code), action="service:Op"), PermanentAwsError)


@pytest.mark.parametrize(
    "error",
    [
        ConnectTimeoutError(endpoint_url="https://x"),
        ReadTimeoutError(endpoint_url="https://x"),
        EndpointConnectionError(endpoint_url="https://x"),
    ],
)
def test_a_connection_that_fails_is_retryable(error: Exception) -> None:
    with pytest.raises(RetryableAwsError) as caught, aws_call("ssm:SendCommand"):
        raise error
    assert caught.value.__cause__ is error
    assert "ssm:SendCommand" in str(caught.value)


@pytest.mark.parametrize("error", [NoCredentialsError(), ParamValidationError(report="Missing x")])
def test_what_we_got_wrong_is_permanent(error: Exception) -> None:
    with pytest.raises(PermanentAwsError), aws_call("ssm:SendCommand"):
        raise error


def test_other_errors_pass_through_unchanged() -> None:
    with pytest.raises(KeyError), aws_call("ssm:SendCommand"):
        raise KeyError("ours")
