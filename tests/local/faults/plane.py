"""The deployed control plane that all cases share, and the clock they have in common."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spot_failover.timestamps import format_seconds

from local_aws.session import LocalAws
from tests.local.faults.driver import QueueDriver, VirtualClock
from tests.local.faults.fleets import FLEET_TAG, BareFleet, Fleets
from tests.local.faults.functions import DeployedFunction

NOTICE_SECONDS = 60
NOTICE_FUNCTIONS = ("deregister_target", "drain_node", "request_replacement")
FUNCTIONS = (*NOTICE_FUNCTIONS, "track_incident")
FLEETS = ("faults-a", "faults-b", "faults-c")
# A case's events are out of every other's reach: launches look six hours back for their incident.
BETWEEN_CASES = 7 * 3600


class Plane:
    """A local AWS with the control plane that `cdk deploy` put there, and drivers in its pollers' place."""

    def __init__(self, aws: LocalAws, table: str, functions: Mapping[str, DeployedFunction]) -> None:
        self.aws = aws
        self.table = table
        self.clock = VirtualClock(aws, float(int(time.time())))
        self.drivers = {name: QueueDriver(aws, self.clock, each) for name, each in functions.items()}
        self._dynamodb = aws.client("dynamodb")
        self._ids = itertools.count(1)
        self._seen = 0
        self.fleets = Fleets(aws, names=FLEETS)

    def __iter__(self) -> Iterator[BareFleet]:
        return iter(self.fleets.fleets)

    def new_case(self) -> None:
        """Go on to a time that nothing before has to do with."""
        self.clock.now += BETWEEN_CASES

    def news(self) -> list[dict[str, Any]]:
        """Return what the local AWS has observed since the last time it was asked."""
        timeline = self.aws.control.timeline(self._seen)
        self._seen = timeline[-1]["seq"] + 1 if timeline else self._seen
        return timeline

    def unknown_id(self) -> str:
        """Return an instance id that no instance has, and that no case had before."""
        return f"i-{next(self._ids) + 0xFA0170000:017x}"

    def instance(self, *, fleet: str | None = None) -> str:
        """Launch an instance that no group knows, with a fleet's tag or without."""
        ec2 = self.aws.client("ec2")
        tags = [{"Key": FLEET_TAG, "Value": fleet}] if fleet else [{"Key": "Name", "Value": "somebody's"}]
        answer = ec2.run_instances(
            ImageId=self.fleets.image,
            MinCount=1,
            MaxCount=1,
            InstanceType="t3.micro",
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        return str(answer["Instances"][0]["InstanceId"])

    def notice(self, instance_id: str, *, at: float | None = None, action: str = "terminate") -> str:
        """Return the body of an interruption notice, as EventBridge puts it into the queues."""
        return self.event(
            "aws.ec2",
            "EC2 Spot Instance Interruption Warning",
            {"instance-id": instance_id, "instance-action": action},
            at=at,
        )

    def event(
        self, source: str, detail_type: str, detail: Mapping[str, Any], *, at: float | None = None
    ) -> str:
        """Return an event's text; `at` is epoch seconds, or now."""
        return json.dumps(
            {
                "version": "0",
                "id": f"fa0170e5-0000-4000-8000-{next(self._ids):012x}",
                "detail-type": detail_type,
                "source": source,
                "account": "123456789012",
                "time": format_seconds(self.moment(at)),
                "region": "us-east-1",
                "resources": [],
                "detail": dict(detail),
            }
        )

    def moment(self, at: float | None = None) -> datetime:
        """Return a time of this clock."""
        return datetime.fromtimestamp(self.clock.now if at is None else at, UTC)

    def entries(self) -> list[dict[str, str]]:
        """Return everything in the incidents table, flattened to texts."""
        items = self._dynamodb.scan(TableName=self.table, ConsistentRead=True)["Items"]
        return [{name: str(next(iter(value.values()))) for name, value in item.items()} for item in items]

    def forget_incidents(self, entries: Sequence[Mapping[str, str]]) -> None:
        """Take entries out of the table."""
        deletions = [
            {"DeleteRequest": {"Key": {"incident": {"S": one["incident"]}, "entry": {"S": one["entry"]}}}}
            for one in entries
        ]
        for start in range(0, len(deletions), 25):
            self._dynamodb.batch_write_item(RequestItems={self.table: deletions[start : start + 25]})


@contextmanager
def deployed_plane(folder: Path) -> Iterator[Plane]:
    """Deploy the control plane alone, with the real CDK command line, and stop its own pollers and rules."""
    with ExitStack() as stack:
        aws = stack.enter_context(LocalAws(folder / "local-aws", engine="none"))
        outcome = aws.deploy({"fleets": [], "notice_seconds": str(NOTICE_SECONDS)})
        hold_deliveries(aws)
        functions = {}
        for name in FUNCTIONS:
            functions[name] = DeployedFunction(aws.control, name, folder / f"{name}.log")
            stack.callback(functions[name].stop)
        for function in functions.values():
            function.wait_until_ready()
        yield Plane(aws, outcome.outputs["SpotFailoverControlPlane"]["IncidentsTable"], functions)


def hold_deliveries(aws: LocalAws, *, held: bool = True) -> None:
    """Stop the deployed pollers, and the rules that would fill their queues meanwhile; or let them go on."""
    aws.control.schedules(paused=held)
    client = aws.client("lambda")
    for mapping in client.list_event_source_mappings()["EventSourceMappings"]:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=not held)
    events = aws.client("events")
    for rule in events.list_rules()["Rules"]:
        if "EventPattern" in rule:
            (events.disable_rule if held else events.enable_rule)(Name=rule["Name"])
