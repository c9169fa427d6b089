"""`cdk bootstrap` and `cdk deploy`, unmodified, against a local AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
CDK = REPOSITORY / "node_modules" / ".bin" / "cdk"
COMMAND_SECONDS = 300.0


class DeployError(RuntimeError):
    """The CDK command line failed; the message ends with what it printed."""


@dataclass(frozen=True)
class DeployOutcome:
    """How a deployment went: seconds of each step, outputs by stack, the synthesized templates."""

    bootstrap_seconds: float
    deploy_seconds: float
    outputs: Mapping[str, Mapping[str, str]]
    assembly: Path


def operator_environment(*, endpoint_url: str, region: str) -> dict[str, str]:
    """Return the environment of a tool that acts as the account's operator."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AWS_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "AKIAOPERATOR00000000",
        "AWS_SECRET_ACCESS_KEY": "operator",
        # No profile, no metadata service: whatever else is on this machine must not decide who we are.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def deploy(
    *,
    endpoint_url: str,
    region: str,
    account_id: str,
    work_dir: Path,
    context: Mapping[str, Any],
    app: str | None = None,
) -> DeployOutcome:
    """Run `cdk bootstrap` and `cdk deploy --all --method=direct`.

    `context` overrides cdk.json's context (values that are not strings are handed over as JSON). `app` is the
    app's command; by default the repository's app under this Python.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    assembly, outputs = work_dir / "cdk.out", work_dir / "outputs.json"
    environment = _cdk_environment(endpoint_url=endpoint_url, region=region, account_id=account_id)
    bootstrap_seconds = _cdk(
        ["bootstrap", f"aws://{account_id}/{region}", "--app", ""], environment, work_dir / "bootstrap.log"
    )
    deploy_seconds = _cdk(
        [
            *("deploy", "--all", "--method=direct", "--require-approval=never", "--concurrency=1"),
            *("--app", app or f"{sys.executable} app.py", "--output", str(assembly)),
            *("--outputs-file", str(outputs)),
            *_context_arguments(context),
        ],
        environment,
        work_dir / "deploy.log",
    )
    return DeployOutcome(
        bootstrap_seconds=bootstrap_seconds,
        deploy_seconds=deploy_seconds,
        outputs=json.loads(outputs.read_text()) if outputs.exists() else {},
        assembly=assembly,
    )


def _cdk_environment(*, endpoint_url: str, region: str, account_id: str) -> dict[str, str]:
    return operator_environment(endpoint_url=endpoint_url, region=region) | {
        "CDK_DEFAULT_ACCOUNT": account_id,
        "CDK_DEFAULT_REGION": region,
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        # cdk-nag still runs; the library's own template validation takes 4-5 s and has tests of its own.
        "CDK_VALIDATION": "false",
        # "localhost" is ::1 as well, where nobody listens, and Node gives each address 250 ms only: on a
        # busy machine both run out and a deployment fails with an AggregateError. IPv4 first, and only.
        "NODE_OPTIONS": "--no-network-family-autoselection --dns-result-order=ipv4first",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
    }


def _context_arguments(context: Mapping[str, Any]) -> list[str]:
    arguments: list[str] = []
    for name, value in context.items():
        text = value if isinstance(value, str) else json.dumps(value)
        arguments += ["--context", f"{name}={text}"]
    return arguments


def _cdk(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> float:
    """Run one CDK command; return its seconds."""
    if not CDK.exists():
        raise DeployError(f"{CDK} is missing: run `npm ci`")
    begun = time.monotonic()
    command = [str(CDK), *arguments, "--no-notices", "--no-version-reporting", "--ci"]
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as err:
            raise DeployError(f"cdk {arguments[0]} took over {COMMAND_SECONDS:.0f} s\n{_tail(log)}") from err
    if done.returncode != 0:
        raise DeployError(f"cdk {arguments[0]} ended with status {done.returncode}\n{_tail(log)}")
    return time.monotonic() - begun


def _tail(log: Path, characters: int = 6000) -> str:
    return log.read_text(errors="replace")[-characters:]
