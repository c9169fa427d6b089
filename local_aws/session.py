"""A local AWS as a context manager: what tests and the demo stand on."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3

from local_aws import deploy
from local_aws.control_client import Control, ControlError
from local_aws.world import NodeKind

START_SECONDS = 120.0
STOP_SECONDS = 30.0


class LocalAwsError(RuntimeError):
    """The local AWS did not start; the message ends with what it printed."""


class LocalAws:
    """Starts a local AWS as a child process and stops it, with everything in it, at the end.

    The child stops by itself when this process ends in whatever way. Logs are in `state_dir/local-aws.log`.
    With the engine "none", nodes are bare: in service and healthy, without a process.
    """

    def __init__(
        self, state_dir: Path, *, engine: NodeKind = "emulated", region: str = "us-east-1", port: int = 0
    ) -> None:
        self.state_dir = state_dir
        self.log_path = state_dir / "local-aws.log"
        self._arguments = ["--engine", engine, "--region", region, "--port", str(port)]
        self._process: subprocess.Popen[bytes] | None = None
        self.about: dict[str, Any] = {}

    def __enter__(self) -> LocalAws:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        arguments = ["--state-dir", str(self.state_dir), "--until-stdin-closes", *self._arguments]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local_aws", "serve", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=deploy.REPOSITORY,
                # It has some sixty threads, and glibc's malloc keeps a heap for each few of them, which fill
                # one after another for hours. Python lets one thread run at a time: two heaps will do.
                env={"MALLOC_ARENA_MAX": "2", **os.environ},
                start_new_session=True,  # Ctrl-C is ours to handle; the child sees its stdin end
            )
        try:
            self.about = self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def endpoint_url(self) -> str:
        """The AWS endpoint, for `AWS_ENDPOINT_URL`."""
        return str(self.about["endpoint_url"])

    @property
    def region(self) -> str:
        """The region everything is deployed to."""
        return str(self.about["region"])

    @property
    def pid(self) -> int:
        """The local AWS's process id."""
        if self._process is None:
            raise LocalAwsError("it has not been started")
        return self._process.pid

    @property
    def control(self) -> Control:
        """What no AWS API offers: interruptions, faults, the timeline."""
        return Control(self.endpoint_url)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make any AWS tool talk to this local AWS as its operator."""
        return deploy.operator_environment(endpoint_url=self.endpoint_url, region=self.region)

    def client(self, service: str) -> Any:
        """Return a boto3 client with the operator's (all-powerful) credentials."""
        session = boto3.session.Session(
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.region,
        )
        return session.client(service, endpoint_url=self.endpoint_url)

    def deploy(
        self, context: Mapping[str, Any] | None = None, *, app: str | None = None
    ) -> deploy.DeployOutcome:
        """Bootstrap and deploy all stacks with the real CDK command line; see `deploy.deploy`."""
        return deploy.deploy(
            endpoint_url=self.endpoint_url,
            region=self.region,
            account_id=str(self.about["account_id"]),
            work_dir=self.state_dir / "deploy",
            context=context or {},
            app=app,
        )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
        line = process.stdout.readline() if readable else b""
        if not line:
            tail = self.log_path.read_text(errors="replace")[-3000:]
            raise LocalAwsError(
                f"it ended or was not ready within {START_SECONDS:.0f} s. {self.log_path} ends:\n{tail}"
            )
        about: dict[str, Any] = json.loads(line)
        return about

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        if self.about:
            with contextlib.suppress(ControlError):
                self.control.shutdown()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its reaper kills the rest
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
