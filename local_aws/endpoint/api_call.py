"""What a request to the endpoint asks of AWS: service, operation, who, with what parameters."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.model import OperationNotFoundError
from moto.core.exceptions import ServiceException
from moto.core.model import OperationModel, ServiceModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import NotFound, get_service_router
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")

# The name that signs a request, where it is not the service model's name.
_MODELS = {
    "elasticloadbalancing": "elbv2",
    "monitoring": "cloudwatch",
    "tagging": "resourcegroupstaggingapi",
}
# The prefix of IAM actions, where it is not the name that signs.
_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}
# Operations whose IAM action has another name.
_ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:UploadPart": "s3:PutObject",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


_SERVER_ERRORS = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServiceError",
        "InternalServiceException",
    }
)


class UnknownCallError(RuntimeError):
    """The request names no operation of a service that we know."""


class CallError(ServiceException):  # type: ignore[misc] # moto is untyped here
    """An error of our own. moto looks for an error's shape by the module it is defined in: not in its own."""


@dataclass(frozen=True)
class ApiCall:
    """One call, not yet made."""

    request: Request
    access_key_id: str
    region: str
    signing_name: str
    model: ServiceModel
    operation: OperationModel
    uri_params: dict[str, Any]

    @property
    def operation_name(self) -> str:
        """The operation, e.g. "ssm:SendCommand", under its service's IAM prefix."""
        return f"{_PREFIXES.get(self.signing_name, self.signing_name)}:{self.operation.name}"

    @property
    def action(self) -> str:
        """The IAM action that permits the operation."""
        return _ACTIONS.get(self.operation_name, self.operation_name)

    @cached_property
    def params(self) -> dict[str, Any]:
        """The operation's parameters, by their names in the API's reference."""
        parser = PROTOCOL_PARSERS[self._protocol](self.operation, map_type=dict)
        parsed: dict[str, Any] = parser.parse(
            {
                "method": self.request.method,
                "values": self.request.values,
                "headers": self.request.headers,
                "body": self.request.get_data(),
                "url_path": self.request.path,
                "url_params": self.uri_params,
            }
        )
        return parsed

    def error(self, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an error, in the service's own protocol."""
        serializer = get_serializer_class(self.model.service_name, self._protocol)(
            operation_model=self.operation, pretty_print=False
        )
        answer = serializer.serialize(CallError(code, message))
        body = answer["body"]
        return (
            _status(code, self._protocol, int(answer["status_code"])),
            {str(name): str(value) for name, value in answer["headers"].items()},
            body if isinstance(body, bytes) else str(body).encode(),
        )

    @property
    def _protocol(self) -> str:
        return str(determine_request_protocol(self.model, self.request.headers.get("Content-Type", "")))


def read_call(environ: dict[str, Any]) -> ApiCall | None:
    """Read a request; None if it is not signed, and so no SDK's or tool's call.

    The body is read and put back. Raises `UnknownCallError` for an operation nobody knows.
    """
    credential = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if credential is None:
        return None
    key, region, service = credential.groups()
    body = _keep_body(environ)
    own = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    request = Request(own)
    try:
        model = get_service_model(_MODELS.get(service, service))
        name, uri_params = _operation_name(request, model)
        operation = model.operation_model(name)
    except (UnknownServiceError, OperationNotFoundError, NotFound, NotImplementedError) as err:
        raise UnknownCallError(
            f"the local AWS knows no call {request.method} {request.path} of {service}"
        ) from err
    return ApiCall(request, key, region, service, model, operation, uri_params)


def _keep_body(environ: dict[str, Any]) -> bytes:
    """Read the body, leave it to be read again, and return it."""
    body: bytes = Request(environ.copy()).get_data()
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return body


def _operation_name(request: Request, model: ServiceModel) -> tuple[str, dict[str, Any]]:
    target = request.headers.get("X-Amz-Target")
    if target:
        return target.rsplit(".", 1)[-1], {}
    action = request.values.get("Action") if model.service_name != "s3" else None
    if action:
        return action, {}
    operation, uri_params = get_service_router(model.service_name).match(request)
    return operation.name, uri_params


def _status(code: str, protocol: str, modelled: int) -> int:
    """Return an error's HTTP status where the service's model has none for it."""
    if code in _SERVER_ERRORS:
        return 500
    if code in ("ServiceUnavailable", "ServiceUnavailableException", "Unavailable"):
        return 503
    if code in ("RequestLimitExceeded", "SlowDown"):  # EC2's and S3's throttling; the others' is a 400
        return 503
    if code == "TooManyRequestsException":
        return 429
    if code in ("AccessDenied", "UnauthorizedOperation"):
        return 403
    return 403 if code == "AccessDeniedException" and protocol == "rest-json" else modelled
