"""Everything the functions raise, and what each means for the message at hand.

SpotFailoverError
├── SettingsError            a setting is missing or senseless: the cold start fails
├── MalformedMessageError    not a message we know: to the dead-letter queue, at once
└── AwsCallError             a call to AWS failed
    ├── RetryableAwsError    the same call can succeed within the notice
    └── PermanentAwsError    it cannot: somebody must look
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

# Passing states, beside throttling and 5xx, that the API references of the calls made here name.
RETRYABLE_CODES = frozenset(
    {
        "InvocationDoesNotExist",  # ssm: the event can overtake the invocation's record
        "ResourceContention",  # autoscaling: the group has a pending update
        "ScalingActivityInProgress",  # autoscaling
        "TransactionConflictException",  # dynamodb: another writer of the same item
        "TargetGroupNotFound",  # elbv2: the cached directory is out of date, the next attempt reads it anew
    }
)
# Why a transaction was cancelled, where the same one can be made a moment later (TransactWriteItems' API
# reference). Neither botocore nor the error's own code knows.
PASSING_REASONS = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"})
# As botocore's standard mode knows them (botocore/retries/standard.py), plus EC2's own.
THROTTLING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
TRANSIENT_CODES = frozenset(
    {"InternalError", "InternalFailure", "InternalServerError", "RequestTimeout", "RequestTimeoutException"}
    | {"RequestExpired", "ServiceUnavailable", "Unavailable"}
)


class SpotFailoverError(Exception):
    """The root of everything the functions raise on purpose."""


class SettingsError(SpotFailoverError):
    """A setting is missing or has an impossible value; the message names it."""


class MalformedMessageError(SpotFailoverError):
    """A queue message is not what its queue is for; the message says which part is wrong."""


class AwsCallError(SpotFailoverError):
    """A call to AWS failed. `action` as IAM writes it, `code` as the service answered it.

    `repeated`: botocore made it more than once, and an earlier attempt may have done what this one was
    refused for.
    """

    def __init__(self, action: str, code: str, message: str, *, repeated: bool = False) -> None:
        super().__init__(f"{action}: {code}: {message}")
        self.repeated = repeated
        self.action = action
        self.code = code


class RetryableAwsError(AwsCallError):
    """The same call can succeed a moment later."""


class PermanentAwsError(AwsCallError):
    """The same call will fail again until somebody changes something."""


def classify(error: BotoCoreError | ClientError, *, action: str) -> AwsCallError:
    """Return the error as one of ours: refused is permanent, not possible now is retryable."""
    if not isinstance(error, ClientError):
        # Connections that fail or hang; what the caller got wrong fails the same way every time.
        permanent = isinstance(error, (ParamValidationError, NoCredentialsError))
        kind = PermanentAwsError if permanent else RetryableAwsError
        return kind(action, type(error).__name__, str(error))
    code = error.response.get("Error", {}).get("Code", "Unknown")
    message = error.response.get("Error", {}).get("Message", "")
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    cancelled: Any = error.response.get("CancellationReasons", [])
    passing = code in RETRYABLE_CODES | THROTTLING_CODES | TRANSIENT_CODES or status >= 500 or status == 429
    passing = passing or any(reason.get("Code") in PASSING_REASONS for reason in cancelled)
    kind = RetryableAwsError if passing else PermanentAwsError
    return kind(action, code, message, repeated=metadata.get("RetryAttempts", 0) > 0)


@contextmanager
def aws_call(action: str) -> Iterator[None]:
    """Turn botocore's errors of the enclosed call into ours. `action` as in IAM: `ssm:SendCommand`."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise classify(error, action=action) from error
