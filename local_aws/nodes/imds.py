"""The instance metadata service of one local node, on the node's own address.

Serves what the user data, the AWS command line and the node agent read: version 2 tokens, identity,
placement, tags, the instance role's credentials, and the spot interruption notice. Whatever else is asked for
is 404, as it is on EC2 for data that an instance does not have. Paths and answers: EC2 user guide, "Instance
metadata categories".
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

_MAX_TOKEN_SECONDS = 21_600


@dataclass(frozen=True)
class RoleCredentials:
    """Temporary credentials of the instance's role."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: datetime


@dataclass(frozen=True)
class InstanceIdentity:
    """What an instance knows of itself from the start. `tags` is None unless IMDS may show them."""

    instance_id: str
    instance_type: str
    ami_id: str
    region: str
    zone: str
    account_id: str
    address: str
    life_cycle: str
    tags: dict[str, str] | None
    role_name: str | None
    instance_profile_arn: str | None
    tokens_required: bool


@dataclass(frozen=True)
class SpotAction:
    """An interruption notice as IMDS shows it; `at` is the epoch second at which EC2 acts."""

    action: str
    at: float

    def document(self) -> dict[str, str]:
        """Return the body of `spot/instance-action`."""
        return {
            "action": self.action,
            "time": datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


class CredentialsSource(Protocol):
    """Gives the role's current credentials."""

    def __call__(self) -> RoleCredentials:
        """Return credentials that are valid for minutes at least."""
        ...


@dataclass
class MetadataService:
    """One node's service. `spot_action` is set by an interruption and read by the node."""

    identity: InstanceIdentity
    credentials: CredentialsSource | None
    spot_action: SpotAction | None = None
    port: int = field(init=False, default=0)
    _tokens: dict[str, float] = field(init=False, default_factory=dict)
    _server: ThreadingHTTPServer | None = field(init=False, default=None)

    def start(self) -> None:
        """Serve on a free port of the node's address."""
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = _Server((self.identity.address, 0), handler)
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, name=f"imds-{self.identity.instance_id}", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop serving; a stopped instance has no metadata service."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def endpoint(self) -> str:
        """The base URL, as in AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        return f"http://{self.identity.address}:{self.port}"

    def new_token(self, seconds: int) -> str:
        """Return a session token that is valid for `seconds`."""
        token = secrets.token_urlsafe(40)
        self._tokens[token] = time.monotonic() + seconds
        return token

    def admits(self, token: str | None) -> bool:
        """Say whether a request with this token may read: version 1 only where the instance allows it."""
        if token is None:
            return not self.identity.tokens_required
        return self._tokens.get(token, 0.0) > time.monotonic()

    def read(self, path: str) -> str | None:
        """Return the answer to a GET under /latest/, or None for 404."""
        leaf = self._leaves().get(path.rstrip("/"))
        return leaf() if leaf else self._listing(path)

    def _leaves(self) -> dict[str, Callable[[], str]]:
        me = self.identity
        values = {
            "meta-data/instance-id": me.instance_id,
            "meta-data/instance-type": me.instance_type,
            "meta-data/instance-life-cycle": me.life_cycle,
            "meta-data/ami-id": me.ami_id,
            "meta-data/local-ipv4": me.address,
            "meta-data/placement/availability-zone": me.zone,
            "meta-data/placement/region": me.region,
            "dynamic/instance-identity/document": json.dumps(self._identity_document()),
        }
        leaves: dict[str, Callable[[], str]] = {path: _constant(value) for path, value in values.items()}
        for key, value in (me.tags or {}).items():
            leaves[f"meta-data/tags/instance/{key}"] = _constant(value)
        action = self.spot_action
        if action is not None:
            leaves["meta-data/spot/instance-action"] = _constant(json.dumps(action.document()))
            if action.action == "terminate":
                leaves["meta-data/spot/termination-time"] = _constant(action.document()["time"])
        if me.role_name and self.credentials is not None:
            leaves["meta-data/iam/info"] = _constant(json.dumps(self._iam_info()))
            leaves[f"meta-data/iam/security-credentials/{me.role_name}"] = self._credentials_document
        return leaves

    def _listing(self, path: str) -> str | None:
        prefix = path.rstrip("/") + "/"
        names = {leaf[len(prefix) :].partition("/") for leaf in self._leaves() if leaf.startswith(prefix)}
        return "\n".join(sorted(f"{name}{slash}" for name, slash, _ in names)) or None

    def _identity_document(self) -> dict[str, str]:
        me = self.identity
        return {
            "accountId": me.account_id,
            "region": me.region,
            "availabilityZone": me.zone,
            "instanceId": me.instance_id,
            "instanceType": me.instance_type,
            "imageId": me.ami_id,
            "privateIp": me.address,
        }

    def _iam_info(self) -> dict[str, str]:
        return {"Code": "Success", "InstanceProfileArn": self.identity.instance_profile_arn or ""}

    def _credentials_document(self) -> str:
        assert self.credentials is not None
        given = self.credentials()
        return json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "AccessKeyId": given.access_key_id,
                "SecretAccessKey": given.secret_access_key,
                "Token": given.session_token,
                "Expiration": given.expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )


def _constant(value: str) -> Callable[[], str]:
    return lambda: value


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # HTTPServer would look the host's name up, which can take seconds.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one segment for head and body: else delayed acknowledgements cost 40 ms an answer
    service: MetadataService

    def do_PUT(self) -> None:
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token":
            self._answer(405, "")
        elif not seconds.isdigit() or not 1 <= int(seconds) <= _MAX_TOKEN_SECONDS:
            self._answer(400, "")
        else:
            self._answer(200, self.service.new_token(int(seconds)))

    def do_GET(self) -> None:
        if not self.service.admits(self.headers.get("X-aws-ec2-metadata-token")):
            self._answer(401, "")
            return
        text = self.service.read(self.path.removeprefix("/latest/"))
        self._answer(404 if text is None else 200, text or "")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: polls arrive every second."""
