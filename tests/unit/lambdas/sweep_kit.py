"""An account to sweep: machines that live and end, a group that launches, and incidents in any state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from spot_failover.incidents import Entry
from spot_failover.outcomes import Outcome, Step
from spot_failover.settings import SweepSettings
from sweep_incidents.sweep import Sweep

from tests.unit.lambdas.fake_aws import NOTICED, TAG, Aws
from tests.unit.lambdas.fake_services import Client, client_error

GRACE = timedelta(seconds=120)
BOOT = timedelta(seconds=1800)
NOTICE = timedelta(seconds=120)
FLEET = "chat"
GROUP = f"spot-failover-{FLEET}"
REPLACEMENT = "i-00000000000000fff"


@dataclass
class Machines:
    """EC2's instances: state by id."""

    states: dict[str, str] = field(default_factory=dict)
    untagged: set[str] = field(default_factory=set)
    protected: set[str] = field(default_factory=set)
    launched_at: dict[str, datetime] = field(default_factory=dict)

    def describe_instances(self, **parameters: Any) -> Any:
        values = {one["Name"]: one["Values"] for one in parameters["Filters"]}
        assert values["tag-key"] == [TAG]
        assert len(values["instance-id"]) <= 200
        found = [
            {
                "InstanceId": key,
                "State": {"Name": state},
                "LaunchTime": self.launched_at.get(key, NOTICED - timedelta(hours=1)),
                "SpotInstanceRequestId": "sir-1",
            }
            for key, state in self.states.items()
            if key in values["instance-id"]
            and state in values["instance-state-name"]
            and key not in self.untagged
        ]
        return {"Reservations": [{"Instances": [one]} for one in found]}

    def terminate_instances(self, **parameters: Any) -> Any:
        ids = parameters["InstanceIds"]
        if self.protected & set(ids):
            raise client_error("TerminateInstances", "OperationNotPermitted", "it is protected")
        self.states |= dict.fromkeys(ids, "terminated")
        return {}


@dataclass
class Groups:
    """One group that launches nothing by itself."""

    desired: int = 0
    members: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)  # members of a group without the fleet's tag
    suspended: tuple[str, ...] = ()

    def describe_auto_scaling_groups(self, **_: Any) -> Any:
        group = {
            "AutoScalingGroupName": GROUP,
            "Tags": [{"Key": TAG, "Value": FLEET}],
            "DesiredCapacity": self.desired,
            "Instances": [
                {"InstanceId": key, "LifecycleState": state} for key, state in self.members.items()
            ],
            "SuspendedProcesses": [{"ProcessName": name} for name in self.suspended],
        }
        return {"AutoScalingGroups": [group]}

    def describe_auto_scaling_instances(self, **parameters: Any) -> Any:
        known = {key: (GROUP, state) for key, state in self.members.items()}
        known |= {key: (group, "InService") for key, group in self.elsewhere.items()}
        return {
            "AutoScalingInstances": [
                {"InstanceId": key, "AutoScalingGroupName": group, "LifecycleState": state}
                for key, (group, state) in known.items()
                if key in parameters["InstanceIds"]
            ]
        }

    def detach_instances(self, **parameters: Any) -> Any:
        assert parameters["ShouldDecrementDesiredCapacity"] is False
        for key in parameters["InstanceIds"]:
            if self.members.get(key) not in ("InService", "Standby"):
                raise client_error("DetachInstances", "ValidationError", f"{key} is not in the group")
            del self.members[key]
        return {"Activities": []}


class SweptAccount:
    """An account whose incidents are written as the functions write them, and then swept."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.machines, self.groups = Machines(), Groups()
        self.now = NOTICED
        self.ec2: Any = Client("ec2", aws.journal, self.machines)
        self.autoscaling: Any = Client("autoscaling", aws.journal, self.groups)

    def sweep_function(self) -> Sweep:
        """Return a sweeper without any memory."""
        settings = SweepSettings(
            fleet_tag_key=TAG,
            incidents_table="incidents",
            incidents_fleet_index="by_fleet",
            incidents_open_index="open",
            incident_ttl=timedelta(days=90),
            grace=GRACE,
            boot_limit=BOOT,
            service="unit",
            metrics_namespace="SpotFailover",
        )
        return Sweep(
            settings=settings,
            ec2=self.ec2,
            autoscaling=self.autoscaling,
            dynamodb=self.aws.dynamodb,
            clock=lambda: self.now,
        )

    def sweep(self, *, seconds: float) -> dict[str, int]:
        """Sweep so many seconds after the notice; forget the calls made before."""
        self.now = NOTICED + timedelta(seconds=seconds)
        self.aws.journal.calls.clear()
        return self.sweep_function().handle()

    def tell(self, node: str, outcomes: Mapping[Step, Outcome], *, second: float = 1) -> None:
        """Write an entry for each of these outcomes."""
        self.aws.table.write(entry(node, step, outcome, second) for step, outcome in outcomes.items())

    def is_closed(self, node: str) -> bool:
        """Whether the node's incident is closed."""
        incident = self.aws.incident(node)
        return incident is not None and incident.closed_at is not None

    def calls(self) -> list[str]:
        """Return the names of the calls of the last sweep, in order."""
        return [name for name, _ in self.aws.journal.calls]


REQUESTED = {
    Step.DEREGISTER: Outcome.DEREGISTERED,
    Step.DRAIN_COMMAND: Outcome.COMMANDED,
    Step.REPLACEMENT_REQUEST: Outcome.DETACHED,
}
DRAINED = {**REQUESTED, Step.DRAIN: Outcome.DRAINED}
WHOLE = {**DRAINED, Step.REPLACEMENT: Outcome.IN_SERVICE, Step.BOOT: Outcome.BOOTED}


def entry(node: str, step: Step, outcome: Outcome, second: float = 1, **detail: Any) -> Entry:
    """Return an entry as a function writes it."""
    details: dict[Step, dict[str, Any]] = {
        Step.REPLACEMENT: {"instance_id": REPLACEMENT, "launched_at": "2026-11-23T13:38:02.000Z"},
        Step.BOOT: {
            "instance_id": REPLACEMENT,
            "booted_at": "2026-11-23T13:38:03.000Z",
            "path": {"engine": 9},
        },
        Step.REPLACEMENT_REQUEST: {"group": GROUP},
    }
    return Entry(
        incident=node,
        fleet=FLEET,
        at=NOTICED + timedelta(seconds=second),
        step=step,
        outcome=outcome,
        noticed_at=NOTICED,
        deadline=NOTICED + NOTICE,
        detail={**details.get(step, {}), **detail},
    )
