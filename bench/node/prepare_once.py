"""Runs the agent's preparation once, by the environment's settings; prints how long its phases took."""

from __future__ import annotations

import json
import os
import sys
import time

from gpu_node_bootstrap.node_agent.boot import BootRecord
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.preparation import Preparation
from gpu_node_bootstrap.node_agent.settings import Settings


def main() -> int:
    """Prepare, and print one JSON line."""
    settings = Settings.from_environment(os.environ)
    boot = BootRecord()
    preparation = Preparation(settings, boot=boot, log=Log(stream=sys.stderr, fleet=settings.fleet))
    began = time.monotonic()
    preparation.run()
    print(json.dumps({"seconds": time.monotonic() - began, "boot": boot.to_json()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
