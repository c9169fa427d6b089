"""The endpoint's HTTP server: werkzeug's, with connections kept open.

Werkzeug's own handler closes every connection after one call and lingers on it in a thread; without that a
call takes 1.5 ms instead of 2.4.
"""

from __future__ import annotations

import io
import logging
import socket
import socketserver
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.wrappers import Response

from local_aws.endpoint.gateway import WsgiApp

log = logging.getLogger(__name__)

MAX_CHUNK_LINE = 1024


class HttpFront(socketserver.ThreadingTCPServer):
    """Serves a WSGI app on a socket that already listens."""

    daemon_threads = True
    # Read by werkzeug's make_environ.
    ssl_context = None
    multithread = True
    multiprocess = False

    def __init__(self, listener: socket.socket, app: WsgiApp) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.app = app


class _Handler(MotoRequestHandler):  # type: ignore[misc] # moto is untyped here
    server: HttpFront
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    timeout = 300

    def run_wsgi(self) -> None:
        """Answer one request; the connection stays open for the next."""
        environ: dict[str, Any] = self.make_environ()
        body = self._body()
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ.pop("wsgi.input_terminated", None)
        try:
            response = Response.from_app(self.server.app, environ, buffered=True)
        except Exception as err:
            # A bug of ours. An answer that says so is found sooner than a connection that ends.
            log.exception("%s %s", self.command, self.path)
            response = Response(f"the local AWS failed: {type(err).__name__}: {err}", status=500)
        content = response.get_data()
        self.send_response_only(response.status_code)
        for name, value in response.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        length = response.headers.get("Content-Length") if is_head else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content)
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        """Tell the client to go on at once: uploads to S3 wait a second for it."""
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))  # type: ignore[no-any-return]
        body = b""
        while size := int(self.rfile.readline(MAX_CHUNK_LINE).split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline(MAX_CHUNK_LINE)
        while self.rfile.readline(MAX_CHUNK_LINE).strip():
            pass  # trailers
        return body

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: the record of calls says more."""
