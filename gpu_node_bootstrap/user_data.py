"""Renders the user data of a node from `user_data.sh` and the fleet's settings.

Runs at synth time. Values may be CDK tokens, so they are only ever concatenated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
AGENT_DIRECTORY = HERE / "node_agent"
"""The agent's package: deploy this directory as the asset that `render_user_data` fetches."""
AGENT_EXCLUDES: Sequence[str] = ("**/__pycache__", "__pycache__", "*.pyc")
"""What the asset leaves out, as glob patterns, so that its hash changes with the source alone."""
MAX_BYTES = 16 * 1024
"""EC2's limit on user data before base64 (EC2 user guide, "Run commands when you launch an instance")."""

_SETTINGS_END = "SPOT_FAILOVER_NODE_SETTINGS"


class UserDataError(ValueError):
    """A value cannot be written into user data."""


@dataclass(frozen=True)
class UserDataSettings:
    """What a fleet tells its nodes. Of what is left None, the agent's own defaults hold."""

    fleet: str
    region: str
    asg_name: str
    lifecycle_hook: str
    """The launch hook to complete once the engine is ready; empty: none."""
    image: str
    model: str
    served_model_name: str
    engine_args: Sequence[str] = ()
    engine_port: int = 8000
    health_port: int = 8081
    start_limit_seconds: float | None = None
    """An engine that is not ready after this long has failed."""
    settle_seconds: float | None = None
    deadline_margin_seconds: float | None = None
    weights_uri: str | None = None
    """`s3://BUCKET/PREFIX` of the model's files."""
    weights_load: str | None = None
    """`stream` or `download`."""
    weights_role: str | None = None
    """ARN of the role that an engine streams with."""
    artifacts_uri: str | None = None
    """`s3://BUCKET/PREFIX` where the fleet keeps compile caches."""
    api_key_secret: str | None = None
    """ARN of the secret that holds the engine's API key."""
    log_group: str | None = None
    event_bus: str | None = None
    """Where the node reports."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further lines of node.env, by their full names: what a test or a bench sets and no fleet does."""

    def environment(self) -> dict[str, str]:
        """Return the agent's settings by the names that it reads them under."""
        named: dict[str, str | None] = {
            "FLEET": self.fleet,
            "REGION": self.region,
            "ASG_NAME": self.asg_name,
            "LIFECYCLE_HOOK": self.lifecycle_hook,
            "ENGINE": "container",
            "IMAGE": self.image,
            "MODEL": self.model,
            "SERVED_MODEL_NAME": self.served_model_name,
            "ENGINE_ARGS": json.dumps(list(self.engine_args)),
            "ENGINE_PORT": str(self.engine_port),
            "HEALTH_PORT": str(self.health_port),
            "START_LIMIT_SECONDS": _seconds(self.start_limit_seconds),
            "SETTLE_SECONDS": _seconds(self.settle_seconds),
            "DEADLINE_MARGIN_SECONDS": _seconds(self.deadline_margin_seconds),
            "WEIGHTS_URI": self.weights_uri or None,
            "WEIGHTS_LOAD": self.weights_load or None,
            "WEIGHTS_ROLE": self.weights_role or None,
            "ARTIFACTS_URI": self.artifacts_uri or None,
            "API_KEY_SECRET": self.api_key_secret or None,
            "LOG_GROUP": self.log_group or None,
            "EVENT_BUS": self.event_bus or None,
        }
        settings = {f"SPOT_FAILOVER_{name}": value for name, value in named.items() if value is not None}
        return {**settings, **self.extra}


def render_user_data(settings: UserDataSettings, *, agent_bucket: str, agent_key: str) -> str:
    """Return the user data script that installs the agent from `s3://agent_bucket/agent_key` and starts it.

    Raises UserDataError for a value that holds a line break, or a quote where none can stand.
    """
    lines = [f"{name}={_systemd_quoted(name, value)}" for name, value in settings.environment().items()]
    shebang, body = (HERE / "user_data.sh").read_text(encoding="utf-8").split("\n", 1)
    script = "\n".join(
        (
            shebang,
            f"AGENT_BUCKET={_shell_quoted('agent_bucket', agent_bucket)}",
            f"AGENT_KEY={_shell_quoted('agent_key', agent_key)}",
            f"AGENT_REGION={_shell_quoted('region', settings.region)}",
            f"node_settings() {{ cat <<'{_SETTINGS_END}'",
            *lines,
            _SETTINGS_END,
            "}",
            body,
        )
    )
    if len(script.encode()) > MAX_BYTES:
        raise UserDataError(f"user data would have {len(script.encode())} bytes; EC2 takes {MAX_BYTES}")
    return script


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _one_line(name: str, value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        raise UserDataError(f"{name} must be one line: {value!r}")
    return value


def _systemd_quoted(name: str, value: str) -> str:
    # In a double-quoted value of an EnvironmentFile only these two matter (systemd.exec(5)).
    escaped = _one_line(name, value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _shell_quoted(name: str, value: str) -> str:
    if "'" in _one_line(name, value):
        raise UserDataError(f"{name} must not hold a single quote: {value!r}")
    return f"'{value}'"
