"""One local node without a fleet: it boots from real user data, and lives until it is told to end."""

from __future__ import annotations

import io
import secrets
import shlex
import subprocess
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from gpu_node_bootstrap.node_agent.times import format_utc
from gpu_node_bootstrap.user_data import AGENT_DIRECTORY, UserDataSettings, render_user_data
from local_aws.addresses import claim_address_block
from local_aws.engines.commands import MODEL_DIRECTORY, SERVED_MODEL_NAME
from local_aws.nodes import processes
from local_aws.nodes.agent_status import read_status
from local_aws.nodes.imds import InstanceIdentity, MetadataService, RoleCredentials, SpotAction
from local_aws.nodes.machine import (
    EngineProcess,
    NodeFolders,
    make_folders,
    node_environment,
    write_local_settings,
)

UNIT = "spot-failover-agent.service"
AGENT_BUCKET, AGENT_KEY = "agents", "agent.zip"
REGION = "us-east-1"
BOOT_SECONDS = 300.0
END_SECONDS = 150.0
_HOST = 10
_LOOK_SECONDS = 0.05


class SoloNodeError(RuntimeError):
    """The node did not do what it was told; the message ends with what it printed."""


def agent_archive() -> bytes:
    """Return the agent as the CDK packs it: what user data fetches."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(AGENT_DIRECTORY.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(AGENT_DIRECTORY))
    return packed.getvalue()


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the node finds around it: an AWS endpoint, credentials, and tools that replace its own."""

    endpoint_url: str = "http://127.0.0.1:9"
    credentials: RoleCredentials | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    """Shell commands by the tool's name, e.g. an `aws` that answers without a network."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further lines of node.env, by their full names."""


class SoloNode:
    """A node in a folder of its own, on an address of its own. A context manager: its end kills the rest.

    Address and instance id are nobody else's on this machine, so that several may live side by side.
    """

    def __init__(
        self,
        home: Path,
        *,
        engine: Callable[[str], EngineProcess],
        around: Surroundings,
    ) -> None:
        """`engine` says how the engine runs on an address. Raises NoFreeAddressesError."""
        self._block = claim_address_block()
        self.instance_id = f"i-{secrets.token_hex(9)[:17]}"
        self.address = f"{self._block.prefix}.{_HOST}"
        self.folders: NodeFolders = make_folders(home)
        self._engine = engine(self.address)
        self._around = around
        self._imds = MetadataService(_identity(self.instance_id, self.address, around), _source(around))
        self._booted_at = 0.0

    def __enter__(self) -> SoloNode:
        for name, command in self._around.tools.items():
            tool = self.folders.tools / name
            tool.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            tool.chmod(0o755)
        self._imds.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._imds.stop()
        processes.kill_marked(self.instance_id)
        self._block.release()

    @property
    def metadata_port(self) -> int:
        """The port of the metadata service, which is around the node and not on it."""
        return self._imds.port

    def boot(self) -> None:
        """Start the machine: run its user data to the end. Raises SoloNodeError."""
        self._booted_at = time.time()
        self._imds.spot_action = None
        write_local_settings(
            folders=self.folders,
            address=self.address,
            imds_endpoint=self._imds.endpoint,
            engine=self._engine,
        )
        script = self.folders.home / "user-data"
        script.write_text(render_user_data(self._settings(), agent_bucket=AGENT_BUCKET, agent_key=AGENT_KEY))
        script.chmod(0o700)
        if self._run([str(script)]) != 0:
            raise SoloNodeError(f"user data failed:\n{self.console()}")

    def status(self) -> dict[str, Any]:
        """Return the agent's status, empty while it does not answer."""
        return read_status(self.folders.agent_socket) or {}

    def wait_until(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until something holds of the status, and return it. Raises SoloNodeError."""
        give_up_at = time.monotonic() + BOOT_SECONDS
        while not holds(status := self.status()):
            if time.monotonic() > give_up_at or status.get("state") == "failed":
                raise SoloNodeError(f"the node is not {what}; its agent says {status}\n{self.console()}")
            time.sleep(_LOOK_SECONDS)
        return status

    def wait_in_service(self) -> dict[str, Any]:
        """Wait until the whole boot is over, and return the status."""
        return self.wait_until("in service", _is_in_service)

    def notice(self, *, seconds: float) -> None:
        """Announce in the metadata that EC2 takes the node."""
        self._imds.spot_action = SpotAction("terminate", time.time() + seconds)

    def drain_by_command(self, *, seconds: float) -> None:
        """Drain as Run Command does, and wait for the outcome. Raises SoloNodeError."""
        deadline = format_utc((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp())
        drain = ["spot-failover-node", "drain", "--deadlines", f"{self.instance_id}@{deadline}"]
        if self._run(drain) != 0:
            raise SoloNodeError(f"the drain command failed:\n{self.console()}")

    def stop_unit(self) -> None:
        """Stop the agent's service, which sends it SIGTERM, as a shutdown does; wait for its end."""
        if self._run(["systemctl", "stop", UNIT]) != 0:
            raise SoloNodeError(f"systemctl stop failed:\n{self.console()}")

    def console(self, characters: int = 3000) -> str:
        """Return the end of what user data, commands and the agent printed."""
        texts = [
            path.read_text(errors="replace")[-characters:]
            for path in (self.folders.console, self.folders.journal)
            if path.exists()
        ]
        return "\n".join(texts)

    def _run(self, command: list[str]) -> int:
        with self.folders.console.open("ab") as console:
            process = processes.spawn(
                command, environment=self._environment(), cwd=self.folders.root, output=console
            )
        try:
            return process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as err:
            raise SoloNodeError(f"{shlex.join(command)} did not end:\n{self.console()}") from err

    def _environment(self) -> dict[str, str]:
        return node_environment(
            folders=self.folders,
            instance_id=self.instance_id,
            endpoint_url=self._around.endpoint_url,
            imds_endpoint=self._imds.endpoint,
            launched_at=self._booted_at,
            process_mark={},
        )

    def _settings(self) -> UserDataSettings:
        return UserDataSettings(
            fleet="bench",
            region=REGION,
            asg_name="bench",
            lifecycle_hook="ready",
            image="none",
            model=str(MODEL_DIRECTORY),
            served_model_name=SERVED_MODEL_NAME,
            extra=self._around.settings,
        )


def _is_in_service(status: dict[str, Any]) -> bool:
    phases = (status.get("boot") or {}).get("phases", [])
    return any(each["phase"] == "in_service" and each["ended"] for each in phases)


def _identity(instance_id: str, address: str, around: Surroundings) -> InstanceIdentity:
    return InstanceIdentity(
        instance_id=instance_id,
        instance_type="g6e.xlarge",
        ami_id="ami-0123456789abcdef0",
        region=REGION,
        zone=f"{REGION}a",
        account_id="123456789012",
        address=address,
        life_cycle="spot",
        tags=None,
        role_name="bench-node" if around.credentials else None,
        instance_profile_arn=None,
        tokens_required=True,
    )


def _source(around: Surroundings) -> Callable[[], RoleCredentials] | None:
    given = around.credentials
    return None if given is None else lambda: given
