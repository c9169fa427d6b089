"""What a node asks: the metadata service, and AWS by its command line."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gpu_node_bootstrap.node_agent.times import format_utc

INSTANCE_ID = "i-0123456789abcdef0"
HOST = "127.0.0.1"


class FakeImds:
    """The metadata service, version 2: a request without a token that it gave is refused."""

    def __init__(self) -> None:
        self.instance_id: str | None = INSTANCE_ID
        self.instance_action: str | None = None
        self.local_ipv4: str | None = None
        self.failing_with: int | None = None
        self.tokens: set[str] = set()
        self.paths: list[str] = []
        imds = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                token = f"token-{len(imds.paths)}"
                imds.paths.append(self.path)
                if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
                    imds.tokens.add(token)
                    self._answer(200, token)
                else:
                    self._answer(400, "")

            def do_GET(self) -> None:
                imds.paths.append(self.path)
                pages = {
                    "/latest/meta-data/instance-id": imds.instance_id,
                    "/latest/meta-data/spot/instance-action": imds.instance_action,
                    "/latest/meta-data/local-ipv4": imds.local_ipv4,
                }
                page = pages.get(self.path)
                if imds.failing_with is not None:
                    self._answer(imds.failing_with, "")
                elif self.headers.get("X-aws-ec2-metadata-token") not in imds.tokens:
                    self._answer(401, "")
                else:
                    self._answer(404 if page is None else 200, page or "")

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.endpoint = f"http://{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def give_notice(self, *, seconds: float, action: str = "terminate") -> float:
        deadline = time.time() + seconds
        self.instance_action = json.dumps({"action": action, "time": format_utc(deadline)})
        return deadline

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class FakeAws:
    """An `aws` on PATH that records how it was called and does what a test wants."""

    directory: Path

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.calls_file = self.directory / "aws-calls"
        self.behaves("exit 0")

    def behaves(self, shell: str) -> None:
        """Do this after each call was recorded; `$n` is the call's number from 1."""
        program = self.directory / "aws"
        record = f'printf "%s\\n" "$*" >> {self.calls_file}; n=$(grep -c "" {self.calls_file})'
        program.write_text(f"#!/bin/bash\n{record}\n{shell}\n")
        program.chmod(0o755)

    def calls_with(self, word: str) -> list[str]:
        return [call for call in self.calls if word in call]

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
