"""boto3's clients, made of memory: each call is checked, journalled, takes time and can fail as on AWS."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from random import Random
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError
from botocore.paginate import Paginator
from botocore.validate import validate_parameters

from tests.simulation.timeline import Killed, Timeline

_SESSION = botocore.session.get_session()


class FaultKind(StrEnum):
    """How a call can go wrong."""

    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    CONTENTION = "contention"
    CONFLICT = "conflict"  # a transaction of another's is under way
    UNREACHABLE = "unreachable"  # nothing arrives
    LOST_ANSWER = "lost_answer"  # it is done, and nobody hears of it
    DENIED = "denied"
    CRASH_BEFORE = "crash_before"  # the function dies before the call arrives
    CRASH_AFTER = "crash_after"  # and after it was done


# Code and HTTP status by kind. Throttling has many codes: this one is EC2's and Auto Scaling's.
_ANSWERS = {
    FaultKind.THROTTLED: ("Throttling", 400),
    FaultKind.SERVER_ERROR: ("InternalFailure", 500),
    FaultKind.CONTENTION: ("ResourceContention", 500),
    FaultKind.CONFLICT: ("TransactionCanceledException", 400),
    FaultKind.DENIED: ("AccessDenied", 403),
}
# What botocore's standard mode tries again (botocore/retries/standard.py), of what occurs here.
_TRIED_AGAIN = frozenset({"Throttling", "InternalFailure", "ResourceContention", "RequestLimitExceeded"})


@dataclass(frozen=True)
class Fault:
    """The requests of one operation, from number `skip` on (counted from 0), `times` in a row, fail so.

    However many: `until` so many seconds after the beginning, for nothing is out of order for ever.
    """

    operation: str
    kind: FaultKind
    skip: int = 0
    times: int = 1
    until: float = 900.0


@dataclass(frozen=True)
class Call:
    """A request that arrived, whoever sent it, and whether it was served."""

    at: float
    by: str
    operation: str
    parameters: Mapping[str, Any]
    served: bool


@dataclass
class Network:
    """The way from a function to AWS. Seconds of a call are drawn from `latency`."""

    timeline: Timeline
    random: Random
    faults: tuple[Fault, ...] = ()
    latency: tuple[float, float] = (0.02, 0.12)
    start: float = 0.0
    journal: list[Call] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def fault(self, operation: str) -> FaultKind | None:
        """Count a request and return what happens to it."""
        number = self._seen.get(operation, 0)
        self._seen[operation] = number + 1
        for one in self.faults:
            met = one.operation == operation and one.skip <= number < one.skip + one.times
            if met and self.timeline.now < self.start + one.until:
                return one.kind
        return None

    def request(self, operation: str, parameters: dict[str, Any], serve: Callable[..., Any]) -> Any:
        """Send one request and return its answer. Raises what botocore would."""
        way = self.random.uniform(*self.latency) / 2
        self.timeline.wait(way)
        kind = self.fault(operation)
        match kind:
            case None:
                answer = self._serve(operation, parameters, serve)
            case FaultKind.CRASH_BEFORE:
                raise Killed
            case FaultKind.UNREACHABLE:
                self.timeline.wait(2.0)
                raise ConnectTimeoutError(endpoint_url=operation)
            case FaultKind.LOST_ANSWER:
                self._serve(operation, parameters, serve)
                self.timeline.wait(5.0)
                raise ReadTimeoutError(endpoint_url=operation)
            case FaultKind.CRASH_AFTER:
                self._serve(operation, parameters, serve)
                raise Killed
            case _:
                self._note(operation, parameters, served=False)
                self.timeline.wait(way)
                code, status = _ANSWERS[kind]
                more = {"CancellationReasons": [{"Code": "TransactionConflict"}]}
                raise client_error(operation, code, "injected", status=status, **more)
        self.timeline.wait(way)
        return answer

    def _serve(self, operation: str, parameters: dict[str, Any], serve: Callable[..., Any]) -> Any:
        try:
            answer = serve(**parameters)
        except ClientError:
            self._note(operation, parameters, served=False)
            raise
        self._note(operation, parameters, served=True)
        return answer

    def _note(self, operation: str, parameters: dict[str, Any], *, served: bool) -> None:
        process = self.timeline.current
        by = process.name if process else "outside"
        self.journal.append(Call(self.timeline.now, by, operation, parameters, served))


class Client:
    """One service's client: standard retries, parameters checked by the service's own model."""

    def __init__(self, service: str, backend: object, network: Network, *, attempts: int = 1) -> None:
        self._service = service
        self._backend = backend
        self._network = network
        self._attempts = attempts

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        operation = _operations(self._service)[name]
        shape = _shape(self._service, operation)
        serve = getattr(self._backend, name, None)
        if serve is None:
            raise NotImplementedError(f"the simulation does not know {self._service}:{operation}")

        def call(**parameters: Any) -> Any:
            if shape is not None:
                validate_parameters(parameters, shape)
                _check_sendable(parameters)
            return self._call(operation, parameters, serve)

        return call

    def get_paginator(self, name: str) -> Paginator[Any]:
        """Return botocore's own paginator over this client."""
        operation = _operations(self._service)[name]
        config = _paginators(self._service).get_paginator(operation)
        return Paginator(getattr(self, name), config, _model(self._service).operation_model(operation))

    def _call(self, operation: str, parameters: dict[str, Any], serve: Callable[..., Any]) -> Any:
        for attempt in range(1, self._attempts + 1):
            try:
                return self._network.request(operation, parameters, serve)
            except (ClientError, ConnectTimeoutError, ReadTimeoutError) as error:
                if isinstance(error, ClientError):
                    error.response["ResponseMetadata"]["RetryAttempts"] = attempt - 1
                if attempt == self._attempts or not _is_tried_again(error):
                    raise
                # Exponential backoff with full jitter, base 2, at most 20 s.
                self._network.timeline.wait(self._network.random.random() * min(2 ** (attempt - 1), 20))
        raise AssertionError("a client makes at least one attempt")


def client_error(operation: str, code: str, message: str, *, status: int = 400, **more: Any) -> ClientError:
    """Return an error as botocore makes it of a service's answer."""
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(response, operation)


def _check_sendable(value: Any) -> None:
    """Raise UnicodeEncodeError for half a surrogate pair, as botocore does when it writes a request."""
    if "\\ud" not in json.dumps(value, default=str):
        return  # quick, and nearly always so
    _check_texts(value)


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check_texts(key)
            _check_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_texts(inner)


def _is_tried_again(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return True
    response = error.response
    return response["Error"]["Code"] in _TRIED_AGAIN or response["ResponseMetadata"]["HTTPStatusCode"] >= 500


@cache
def _model(service: str) -> Any:
    return _SESSION.get_service_model(service)


@cache
def _paginators(service: str) -> Any:
    return _SESSION.get_paginator_model(service)


@cache
def _operations(service: str) -> dict[str, str]:
    return {xform_name(name): name for name in _model(service).operation_names}


@cache
def _shape(service: str, operation: str) -> Any:
    return _model(service).operation_model(operation).input_shape
