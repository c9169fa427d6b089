"""Puts a model's weights on the machine as a node would: by the agent's preparation, into a node's cache.

Takes CACHE, CONTAINER, REGION and WEIGHTS_URI from the environment. Ends with 1 where the weights did not
come.
"""

from __future__ import annotations

import os
import sys

from gpu_node_bootstrap.node_agent.boot import BootRecord
from gpu_node_bootstrap.node_agent.errors import AgentError
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.preparation import Preparation
from gpu_node_bootstrap.node_agent.settings import Settings

FALLBACK = "weights-did-not-come"
"""The hub's id that a node would fall back on; here it stands for a failure."""


def main() -> int:
    """Fetch the weights; return the exit status."""
    settings = Settings.from_environment(
        {
            "SPOT_FAILOVER_FLEET": "image",
            "SPOT_FAILOVER_REGION": os.environ["REGION"],
            "SPOT_FAILOVER_ASG_NAME": "image",
            "SPOT_FAILOVER_IMAGE": os.environ["CONTAINER"],
            "SPOT_FAILOVER_MODEL": FALLBACK,
            "SPOT_FAILOVER_SERVED_MODEL_NAME": "image",
            "SPOT_FAILOVER_CONTAINER_CACHE": os.environ["CACHE"],
            "SPOT_FAILOVER_WEIGHTS_URI": os.environ["WEIGHTS_URI"],
            "SPOT_FAILOVER_WEIGHTS_LOAD": "download",
        }
    )
    try:
        prepared = Preparation(settings, boot=BootRecord(), log=Log(fleet=settings.fleet)).run()
    except AgentError as err:
        print(f"spot-failover: {err}", file=sys.stderr)
        return 1
    if prepared.model == FALLBACK:
        print(f"spot-failover: {settings.weights_uri} did not come; see above", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
