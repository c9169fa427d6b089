"""A deployed fleet, and words for what happens to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry, Incident

from local_aws.control_client import Control, NodeView
from local_aws.session import LocalAws

T = TypeVar("T")

FLEET = "demo"
NOTICE_SECONDS = 60
CONTROL_PLANE = "SpotFailoverControlPlane"


def wait_for(what: str, look: Callable[[], T | None], *, seconds: float = 60.0) -> T:
    """Return the first truthy answer of `look`; fail with `what` was awaited."""
    give_up_at = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        assert time.monotonic() < give_up_at, f"after {seconds:g} s there was still no {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class DeployedFleet:
    """A fleet of two nodes and its control plane, as `cdk deploy` left them."""

    aws: LocalAws
    table_name: str

    @property
    def control(self) -> Control:
        return self.aws.control

    def in_service(self, fleet: str = FLEET) -> list[NodeView]:
        return [
            node
            for node in self.control.nodes()
            if node.fleet == fleet
            and node.lifecycle_state == "InService"
            and set(node.target_states.values()) == {"healthy"}
        ]

    def whole(self, nodes: int = 2) -> list[NodeView]:
        """Wait until as many nodes are in service and healthy."""
        return wait_for(
            f"{nodes} healthy nodes",
            lambda: found if len(found := self.in_service()) >= nodes else None,
            seconds=90,
        )

    @property
    def _table(self) -> IncidentTable:
        return IncidentTable(self.aws.client("dynamodb"), table=self.table_name, ttl=timedelta(days=1))

    def incident(self, instance_id: str) -> Incident | None:
        return self._table.incident(instance_id)

    def record(self, entry: Entry) -> None:
        """Write an entry, as a function would."""
        self._table.write([entry])

    def incident_with(self, instance_id: str, *fields: str, seconds: float = 60.0) -> Incident:
        """Wait until the named fields of the node's incident are known."""

        def complete() -> Incident | None:
            incident = self.incident(instance_id)
            known = incident and all(getattr(incident, field) is not None for field in fields)
            return incident if known else None

        try:
            return wait_for(f"{', '.join(fields)} of {instance_id}", complete, seconds=seconds)
        except AssertionError as err:
            raise AssertionError(f"{err}; the incident is {self.incident(instance_id)}") from err

    def notice(self, instance_id: str, **event: Any) -> None:
        """Put EC2's interruption warning on the bus, and do nothing else to the node."""
        self.control.put_event(
            source="aws.ec2",
            detail_type="EC2 Spot Instance Interruption Warning",
            detail={"instance-id": instance_id, "instance-action": "terminate"},
            resources=[f"arn:aws:ec2:us-east-1a:instance/{instance_id}"],
            **event,
        )

    def role_of(self, function: str) -> str:
        """Return the name of a function's role."""
        name = f"spot-failover-{function}"
        configuration = self.aws.client("lambda").get_function_configuration(FunctionName=name)
        return str(configuration["Role"]).rsplit("/", 1)[-1]

    def queue_url(self, name: str) -> str:
        return str(self.aws.client("sqs").get_queue_url(QueueName=f"spot-failover-{name}")["QueueUrl"])
