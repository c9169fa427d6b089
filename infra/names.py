"""Names that the stacks, the functions, the nodes and the local AWS agree on."""

FLEET_TAG_KEY = "spot-failover:fleet"
LAUNCH_HOOK_NAME = "spot-failover-ready"
DRAIN_DOCUMENT_NAME = "SpotFailover-DrainNode"
METRICS_NAMESPACE = "SpotFailover"
FLEET_INDEX_NAME = "by_fleet"
ENGINE_PORT = 8000
HEALTH_PORT = 8081
HEALTH_PATH = "/healthz"


def group_name(fleet: str) -> str:
    """Return the physical name of a fleet's Auto Scaling group."""
    return f"spot-failover-{fleet}"
