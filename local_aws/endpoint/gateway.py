"""The endpoint itself: control requests to the control API, everything else to AWS's services.

On its way to moto a call is read, throttled where AWS's limits are played, hit by a fault if there is one for
it, judged if a role makes it, and written down. One call is handled at a time, as one call is atomic on AWS.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moto import backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from local_aws.control_api import CONTROL_PREFIX, ControlApi
from local_aws.endpoint.api_call import ApiCall, UnknownCallError, read_call
from local_aws.endpoint.calls import CallLog
from local_aws.endpoint.faults import LOST_HEADER, Faults
from local_aws.endpoint.throttling import Throttle
from local_aws.iam.authorization import Authorizer
from local_aws.iam.sessions import RoleSession, session_of
from local_aws.world import World

log = logging.getLogger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Answer = tuple[int, Mapping[str, str], bytes]

# These wait: for a message, or for a function that makes calls itself.
_UNLOCKED = frozenset({"sqs:ReceiveMessage", "lambda:Invoke"})

_LOST: Answer = (504, {"Content-Type": "text/plain", LOST_HEADER: "1"}, b"")

_DENIAL_CODES = {
    "ec2": "UnauthorizedOperation",
    "autoscaling": "AccessDenied",
    "elasticloadbalancing": "AccessDenied",
    "monitoring": "AccessDenied",
    "s3": "AccessDenied",
    "sqs": "AccessDenied",
    "sts": "AccessDenied",
}


class Gateway:
    """A WSGI app in front of moto's."""

    def __init__(
        self, world: World, *, calls: CallLog, faults: Faults, throttle: Throttle, authorizer: Authorizer
    ) -> None:
        self._world = world
        self._calls = calls
        self._faults = faults
        self._throttle = throttle
        self._authorizer = authorizer
        self._control = ControlApi(world)
        modules = list(backends.list_of_moto_modules())
        backends.list_of_moto_modules = lambda: modules  # it reads the disk for every request, half its time
        self._moto: WsgiApp = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ.get("PATH_INFO", "").startswith(CONTROL_PREFIX):
            return self._control(environ, start_response)
        try:
            call = read_call(environ)
        except UnknownCallError as err:
            return _response((501, {"Content-Type": "text/plain"}, str(err).encode()))(
                environ, start_response
            )
        if call is None:
            return _response(self._unsigned(environ))(environ, start_response)
        return _response(self._answer(call, environ))(environ, start_response)

    def _answer(self, call: ApiCall, environ: dict[str, Any]) -> Answer:
        begun = time.monotonic()
        session = session_of(call.access_key_id)
        resources: list[str] = []
        refused = self._throttled(call, session)
        fault = self._faults.hit(call.action, session.role_name) if session and refused is None else None
        if fault is not None:
            time.sleep(fault.delay_seconds)
        if refused is None and not (fault and fault.prevents):
            locked = call.operation_name not in _UNLOCKED
            with self._world.lock if locked else contextlib.nullcontext():
                if session is not None:
                    refused = self._judge(call, session, resources)
                answer = call.error(*refused) if refused else self._forward(call, environ)
        if fault is not None and fault.spoils:
            refused = (fault.code, f"{call.action} fails by an injected fault")
        if refused is not None:
            answer = _LOST if fault is not None and fault.lost else call.error(*refused)
        self._calls.record(
            action=call.action,
            resources=resources,
            result=refused[0] if refused else _result(answer),
            role=session.role_name if session else None,
            session=session.session_name if session else None,
            seconds=time.monotonic() - begun,
        )
        return answer

    def _unsigned(self, environ: dict[str, Any]) -> Answer:
        try:
            with self._world.lock:
                response = Response.from_app(self._moto, environ)
        except Exception as err:
            log.exception("an unsigned request failed")
            return 400, {"Content-Type": "text/plain"}, f"{type(err).__name__}: {err}".encode()
        return response.status_code, dict(response.headers), response.get_data()

    def _throttled(self, call: ApiCall, session: RoleSession | None) -> tuple[str, str] | None:
        return self._throttle.refusal(call.action, lambda: call.params) if session else None

    def _judge(self, call: ApiCall, session: RoleSession, resources: list[str]) -> tuple[str, str] | None:
        verdict = self._authorizer.judge(session, call.action, call.params)
        resources += [target.arn for target in verdict.targets if target.arn != "*"]
        if verdict.denial is None:
            return None
        log.info("denied: %s", verdict.denial)
        code = _DENIAL_CODES.get(call.signing_name, "AccessDeniedException")
        return code, f"User: {session.role_arn}/{session.session_name}: {verdict.denial}"

    def _forward(self, call: ApiCall, environ: dict[str, Any]) -> Answer:
        try:
            response = Response.from_app(self._moto, environ)
        except NotImplementedError as err:
            return _unsupported(call, str(err))
        except Exception as err:
            log.exception("%s failed", call.operation_name)
            return _unsupported(call, f"{type(err).__name__}: {err}")
        # The answer to a HEAD never has a body: S3's 404 says by itself that there is no such object.
        has_no_word = not response.get_data() and environ["REQUEST_METHOD"] != "HEAD"
        if response.status_code in (404, 405) and has_no_word:
            return _unsupported(call, "it is not implemented")
        if response.status_code in (500, 501):
            return _unsupported(call, response.get_data(as_text=True)[:500])
        return response.status_code, dict(response.headers), response.get_data()


def _unsupported(call: ApiCall, why: str) -> Answer:
    """Say which call it was that the local AWS cannot do; 4xx, so that no client retries it for long."""
    code, message = "NotImplemented", f"the local AWS cannot do {call.operation_name}: {why}"
    _, headers, body = call.error(code, message)
    return 400, headers, body


def _result(answer: Answer) -> str:
    status, headers, body = answer
    if status < 400:
        return "ok"
    named = {name.lower(): value for name, value in headers.items()}.get("x-amzn-errortype")
    if named:
        return named.split(":")[0]
    for opening, closing in (("<Code>", "</Code>"), ('"__type":', ",")):
        text = body.decode(errors="replace")
        if opening in text:
            found = text.split(opening, 1)[1].split(closing, 1)[0]
            return found.strip(' "}').rsplit("#", 1)[-1]
    return str(status)


def _response(answer: Answer) -> Response:
    status, headers, body = answer
    kept = {k: v for k, v in headers.items() if k.lower() not in ("content-length", "status")}
    response = Response(body, status=status, headers=kept)
    length = {k.lower(): v for k, v in headers.items()}.get("content-length")
    if not body and length is not None:
        response.headers["Content-Length"] = length  # a HEAD request's
    return response
