"""`/_local/...`: what a test or the demo may do that no AWS API offers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from local_aws.world import World

log = logging.getLogger(__name__)

CONTROL_PREFIX = "/_local/"


class ControlApi:
    """A WSGI app over the world's routes. GET's query and POST's JSON arrive as one mapping."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        path = request.path.removeprefix(CONTROL_PREFIX)
        handler = self._world.routes.get((request.method, path))
        if handler is None:
            known = sorted(f"{method} {path}" for method, path in self._world.routes)
            return _json({"error": f"no route {request.method} {path}; there are: {known}"}, 404)
        try:
            return _json(handler(_arguments(request)), 200)
        except LookupError as err:
            return _json({"error": str(err.args[0]) if err.args else repr(err)}, 404)
        except ValueError as err:
            return _json({"error": str(err)}, 400)
        except Exception as err:
            log.exception("%s %s failed", request.method, path)
            return _json({"error": f"{type(err).__name__}: {err}"}, 500)


def _arguments(request: Request) -> Mapping[str, Any]:
    arguments: dict[str, Any] = dict(request.args)
    body = request.get_data()
    if body:
        given = json.loads(body)
        if not isinstance(given, dict):
            raise ValueError("the body must be a JSON object")
        arguments |= given
    return arguments


def _json(value: Any, status: int) -> Response:
    return Response(json.dumps(value, default=str), status=status, mimetype="application/json")


def about(world: World) -> dict[str, str]:
    """Return what a client needs to find its way: the ready line and `GET about` say the same."""
    return {
        "endpoint_url": world.endpoint_url,
        "region": world.region,
        "account_id": world.account_id,
        "engine": world.engine,
        "address_prefix": world.address_prefix,
        "state_dir": str(world.state_dir),
    }


def install(world: World) -> None:
    """Register the routes that need nothing but the world itself."""
    world.route("GET", "about", lambda _: about(world))
    world.route("GET", "timeline", lambda given: world.timeline.since(int(given.get("since", 0))))
