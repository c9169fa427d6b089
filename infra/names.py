"""Names that the stacks, the functions, the nodes and the local AWS agree on."""

FLEET_TAG_KEY = "spot-failover:fleet"
LAUNCH_HOOK_NAME = "spot-failover-ready"
DRAIN_DOCUMENT_NAME = "SpotFailover-DrainNode"
METRICS_NAMESPACE = "SpotFailover"
FLEET_INDEX_NAME = "by_fleet"
OPEN_INDEX_NAME = "open"
OPEN_ATTRIBUTE = "open_incident"
ENGINE_PORT = 8000
HEALTH_PORT = 8081
HEALTH_PATH = "/healthz"
NODE_EVENT_SOURCE = "spot-failover.node"
NODE_EVENTS = (
    "Spot Failover Node Ready",
    "Spot Failover Node Boot Failed",
    "Spot Failover Node Engine Failed",
    "Spot Failover Node Drained",
)
COMPILE_CACHE_PREFIX = "compile-cache"
# In the CDK's own bucket, so that nodes may read what is theirs there and no other app's code.
ASSET_PREFIX = "spot-failover/nodes/"


def group_name(fleet: str) -> str:
    """Return the physical name of a fleet's Auto Scaling group."""
    return f"spot-failover-{fleet}"


def node_log_group_name(fleet: str) -> str:
    """Return the log group that the agents of a fleet's nodes write to."""
    return f"/spot-failover/nodes/{fleet}"


def baked_image_parameter(image: str) -> str:
    """Return the SSM parameter that holds the id of the newest machine image that the pipeline passed."""
    return f"/imagebuilder/spot-failover/{image}/ami-id"
