"""EC2 in memory: instances with tags, and what spot interruptions do to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Any

from tests.simulation.network import client_error
from tests.simulation.timeline import Timeline

MOST_FILTER_VALUES = 200  # EC2 API reference, DescribeInstances, Filter.N


class State(StrEnum):
    """An instance's state, as DescribeInstances names it."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"


ALIVE = frozenset({State.PENDING, State.RUNNING})
GONE = frozenset({State.SHUTTING_DOWN, State.TERMINATED})


@dataclass
class Instance:
    """One instance. Times are epoch seconds."""

    instance_id: str
    tags: dict[str, str]
    launched_at: float
    state: State = State.PENDING
    noticed_at: float | None = None  # EC2's own notice, whether or not an event tells of it
    deadline: float | None = None

    @property
    def alive(self) -> bool:
        """Whether something can run on it."""
        return self.state in ALIVE


@dataclass
class Ec2:
    """The instances of the account. `changed` hears of each change of a state."""

    timeline: Timeline
    page_size: int = 1000
    instances: dict[str, Instance] = field(default_factory=dict)
    changed: list[Callable[[Instance], None]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def launch(self, tags: Mapping[str, str]) -> Instance:
        """Make an instance, pending."""
        instance_id = f"i-{next(self._numbers):017x}"
        instance = Instance(instance_id, dict(tags), self.timeline.now)
        self.instances[instance_id] = instance
        return instance

    def move(self, instance: Instance, state: State) -> None:
        """Change an instance's state; one that is terminated stays so."""
        if instance.state in (state, State.TERMINATED):
            return
        instance.state = state
        for hear in self.changed:
            hear(instance)

    def end(self, instance: Instance) -> None:
        """Terminate an instance."""
        if instance.state not in GONE:
            self.move(instance, State.SHUTTING_DOWN)
            self.timeline.after(1.0, lambda: self.move(instance, State.TERMINATED))

    def describe_instances(
        self,
        Filters: Sequence[Mapping[str, Any]] = (),
        InstanceIds: Sequence[str] = (),
        MaxResults: int | None = None,
        NextToken: str = "",
    ) -> Any:
        """An unknown id in `InstanceIds` fails the call, in a filter it does not."""
        for one in Filters:
            if len(one["Values"]) > MOST_FILTER_VALUES:
                raise client_error("DescribeInstances", "FilterLimitExceeded", "too many filter values")
        if InstanceIds and not set(InstanceIds) <= self.instances.keys():
            raise client_error("DescribeInstances", "InvalidInstanceID.NotFound", "do not exist")
        candidates = self._candidates(Filters, InstanceIds)
        found = [one for one in candidates if all(_fits(one, each) for each in Filters)]
        found.sort(key=lambda one: one.instance_id)
        # A token is a place among all instances: what changes between two pages shifts nobody out of them.
        rest = [one for one in found if one.instance_id > NextToken]
        page = rest[: min(MaxResults or self.page_size, self.page_size)]
        more = {"NextToken": page[-1].instance_id} if len(page) < len(rest) else {}
        return {"Reservations": [{"Instances": [_described(one)]} for one in page], **more}

    def terminate_instances(self, InstanceIds: Sequence[str]) -> Any:
        """Terminating one that is terminated is no error."""
        if not set(InstanceIds) <= self.instances.keys():
            raise client_error("TerminateInstances", "InvalidInstanceID.NotFound", "do not exist")
        for key in InstanceIds:
            self.end(self.instances[key])
        return {"TerminatingInstances": [{"InstanceId": key} for key in InstanceIds]}

    def _candidates(
        self, filters: Sequence[Mapping[str, Any]], instance_ids: Sequence[str]
    ) -> list[Instance]:
        by_id = next((one["Values"] for one in filters if one["Name"] == "instance-id"), instance_ids)
        if by_id:
            return [self.instances[key] for key in dict.fromkeys(by_id) if key in self.instances]
        return list(self.instances.values())


def _fits(instance: Instance, wanted: Mapping[str, Any]) -> bool:
    name, values = wanted["Name"], wanted["Values"]
    if name == "instance-id":
        return instance.instance_id in values
    if name == "tag-key":
        return any(value in instance.tags for value in values)
    if name == "instance-state-name":
        return instance.state in values
    if name.startswith("tag:"):
        return instance.tags.get(name.removeprefix("tag:")) in values
    raise NotImplementedError(f"the simulation does not know the filter {name}")


def _described(instance: Instance) -> dict[str, Any]:
    return {
        "InstanceId": instance.instance_id,
        "InstanceLifecycle": "spot",
        "LaunchTime": datetime.fromtimestamp(instance.launched_at, UTC),
        "State": {"Name": instance.state.value},
        "Tags": [{"Key": key, "Value": value} for key, value in instance.tags.items()],
    }
