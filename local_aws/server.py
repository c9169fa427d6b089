"""Starts, runs and stops one local AWS in this process."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from moto.core.config import default_user_config
from moto.iam.models import iam_backends

from local_aws import compute, control_api, reaper
from local_aws.addresses import AddressBlock, claim_address_block
from local_aws.cloudformation import models as cloudformation_models
from local_aws.cloudformation import seam as cloudformation
from local_aws.endpoint import calls, fast_stores, faults, queue_clock, throttling
from local_aws.endpoint.gateway import Gateway
from local_aws.endpoint.http_front import HttpFront
from local_aws.events import bus as event_bus
from local_aws.functions import service as lambda_service
from local_aws.iam import sessions
from local_aws.iam.authorization import Authorizer
from local_aws.moto_override import forget_models
from local_aws.nodes import machine_images
from local_aws.world import NodeKind, World

log = logging.getLogger(__name__)

ACCOUNT_ID = "123456789012"


class LocalAwsServer:
    """One local AWS: claims its addresses and port at construction, serves from `start` until `stop`."""

    def __init__(self, *, port: int, state_dir: Path, engine: NodeKind, region: str) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        mark = uuid.uuid4().hex
        os.environ[reaper.MARK] = mark  # inherited by every child; see reaper
        self._reaper = reaper.start_reaper(mark)
        self._mark = mark
        self._block: AddressBlock = claim_address_block()
        listener = _listen(port)
        self.world = World(
            region=region,
            account_id=ACCOUNT_ID,
            # The name, not the address: clients read an address as a virtual-hosted bucket.
            endpoint_url=f"http://localhost:{listener.getsockname()[1]}",
            state_dir=state_dir,
            engine=engine,
            address_prefix=self._block.prefix,
            process_mark={reaper.MARK: mark},
        )
        self.stop_requested = threading.Event()
        self.world.route("POST", "shutdown", self._shutdown)
        gateway = _install_platform(self.world)
        compute.install(self.world)
        self._server = HttpFront(listener, gateway)

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="endpoint", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop every part, last installed first, then kill whatever is left of their processes."""
        for callback in reversed(self.world.stop_callbacks):
            try:
                callback()
            except Exception:
                log.exception("a part did not stop cleanly")
        self._server.shutdown()
        self._server.server_close()
        left = reaper.kill_marked(self._mark)
        if left:
            log.error("processes %s survived SIGKILL", left)
        self._block.release()

    def _shutdown(self, _: object) -> dict[str, bool]:
        self.stop_requested.set()
        return {"stopping": True}


def _listen(port: int) -> socket.socket:
    """Bind before anything is told the port, so that it cannot be lost to another process in between."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(256)
    return listener


def _install_platform(world: World) -> Gateway:
    """Install what does not depend on nodes; return the endpoint's app."""
    forget_models()
    _load_managed_policies(world)
    control_api.install(world)
    call_log = calls.install(world)
    sessions.install()
    authorizer = Authorizer(world, call_log)
    cloudformation.install(world)
    cloudformation_models.install(world)
    machine_images.install(world)
    fast_stores.install()
    queue_clock.install(world)
    event_bus.install(world)
    lambda_service.install(world, authorizer)
    return Gateway(
        world,
        calls=call_log,
        faults=faults.install(world),
        throttle=throttling.install(world),
        authorizer=authorizer,
    )


def _load_managed_policies(world: World) -> None:
    """Have AWS's own policies in the one partition we use: for all six they take 0.6 s."""
    default_user_config["iam"]["load_aws_managed_policies"] = True
    assert iam_backends[world.account_id]["aws"].managed_policies
    default_user_config["iam"]["load_aws_managed_policies"] = False


def serve(*, port: int, state_dir: Path, engine: NodeKind, region: str, until_stdin_closes: bool) -> None:
    """Run a local AWS in this process until a signal, `/_local/shutdown`, or (if asked) the end of stdin.

    Prints one JSON line when it is ready; see `control_api.about`.
    """
    server = LocalAwsServer(port=port, state_dir=state_dir.resolve(), engine=engine, region=region)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: server.stop_requested.set())
    if until_stdin_closes:
        _watch_stdin(server.stop_requested.set)
    server.start()
    print(json.dumps(control_api.about(server.world)), flush=True)
    server.stop_requested.wait()
    server.stop()


def _watch_stdin(at_end: Callable[[], None]) -> None:
    def wait() -> None:
        sys.stdin.buffer.read()
        at_end()

    threading.Thread(target=wait, name="stdin", daemon=True).start()
