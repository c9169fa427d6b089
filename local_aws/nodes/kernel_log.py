"""The route `kernel-log`: a line of the kernel, such as the NVIDIA driver writes when a GPU is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from local_aws.nodes.registry import Node, Nodes
from local_aws.world import World

# Facility kernel (0), level error (3): Linux's Documentation/ABI/testing/dev-kmsg.
_PRIORITY = 3


def append(node: Node, line: str) -> str:
    """Add a message to the node's /dev/kmsg as a record of the kernel's; return the record.

    Raises ValueError for what is not one line.
    """
    if "\n" in line or not line:
        raise ValueError(f"a kernel message is one line, not {line!r}")
    with node.lock, node.folders.kernel_log.open("r+") as log:
        number = len(log.readlines())
        microseconds = int((time.time() - node.launched_at) * 1_000_000)
        record = f"{_PRIORITY},{number},{microseconds},-;{line}"
        log.write(f"{record}\n")
    return record


def add_routes(world: World, nodes: Nodes) -> None:
    """Serve `POST kernel-log` {"instance_id", "line"}."""

    def kernel_log(given: Mapping[str, Any]) -> dict[str, str]:
        node = nodes.get(str(given["instance_id"]))
        if node is None:
            raise LookupError(f"no node {given['instance_id']}")
        return {"record": append(node, str(given["line"]))}

    world.route("POST", "kernel-log", kernel_log)
