"""The endpoint itself: control requests to the control API, everything else to AWS's services."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from local_aws.control_api import CONTROL_PREFIX, ControlApi
from local_aws.world import World

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Gateway:
    """A WSGI app that tells the control API's requests from AWS's."""

    def __init__(self, world: World, services: WsgiApp) -> None:
        self._control = ControlApi(world)
        self._services = services

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ.get("PATH_INFO", "").startswith(CONTROL_PREFIX):
            return self._control(environ, start_response)
        return self._services(environ, start_response)


def moto_services() -> WsgiApp:
    """Return moto's services as one WSGI app."""
    app: WsgiApp = DomainDispatcherApplication(create_backend_app)
    return app
