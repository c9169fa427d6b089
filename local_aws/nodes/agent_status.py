"""Asks a local node's agent for its status, over the node's own socket and within a second.

The agent's own client waits for an answer as long as a drain takes; whoever looks at all nodes twice a second
cannot.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 1.0


def read_status(agent_socket: Path) -> dict[str, Any] | None:
    """Return what `spot-failover-node status` would print, None where no agent answers in time."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(agent_socket))
            connection.sendall(b'{"do": "status"}\n')
            with connection.makefile("rb") as answers:
                status: dict[str, Any] = json.loads(answers.readline())["status"]
                return status
    except (OSError, ValueError, KeyError):
        return None
