"""What the tests of a node's way to AWS share: settings, and what the AWS command was given."""

from __future__ import annotations

from pathlib import Path

from gpu_node_bootstrap.node_agent.settings import Settings

INSTANCE_ID = "i-0123456789abcdef0"


def settings(**changes: str) -> Settings:
    fields = {
        "FLEET": "chat",
        "REGION": "eu-west-1",
        "ASG_NAME": "spot-failover-chat",
        "ENGINE": "process",
        "ENGINE_COMMAND": '["engine"]',
        "SERVED_MODEL_NAME": "tiny",
        "LOG_GROUP": "/spot-failover/fleet/chat",
        "EVENT_BUS": "default",
        **changes,
    }
    return Settings.from_environment({f"SPOT_FAILOVER_{name}": value for name, value in fields.items()})


def keep_input(folder: Path, then: str = "") -> str:
    """Return what makes the fake `aws` keep each call's input, in `FOLDER/input.N`."""
    return f'cat > "{folder}/input.$n"; {then}'
