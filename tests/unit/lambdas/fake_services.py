"""Services as their API references describe them, where moto does otherwise or takes long.

Detaching is all or nothing, an unknown instance refuses a whole command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters


def client_error(operation: str, code: str, message: str = "injected", status: int = 400) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)


@cache
def client(service: str) -> Any:
    """Return a client of moto's; making one takes longer than a test."""
    return boto3.client(service, region_name="us-east-1")


@dataclass
class Fault:
    code: str
    times: int
    when: Callable[[Mapping[str, Any]], bool]
    message: str


@dataclass
class Journal:
    """All calls of all clients, and the faults they are to meet."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def fail(
        self,
        operation: str,
        code: str,
        *,
        times: int = 10**6,
        when: Callable[[Mapping[str, Any]], bool] = lambda _: True,
        message: str = "injected",
    ) -> None:
        self.faults.setdefault(operation, []).append(Fault(code, times, when, message))

    def enter(self, operation: str, parameters: dict[str, Any]) -> None:
        self.calls.append((operation, parameters))
        for fault in self.faults.get(operation, []):
            if fault.times and fault.when(parameters):
                fault.times -= 1
                raise client_error(operation, fault.code, fault.message)

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [parameters for name, parameters in self.calls if name == operation]


class Client:
    """A client, moto's or a fake of ours: journals each call by its Python name, checks its parameters."""

    def __init__(self, service: str, journal: Journal, backend: object | None = None) -> None:
        self._real = client(service)
        self._backend = backend or self._real
        self._journal = journal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**parameters: Any) -> Any:
            api_name = self._real.meta.method_to_api_mapping[name]
            shape = self._real.meta.service_model.operation_model(api_name).input_shape
            validate_parameters(parameters, shape)
            self._journal.enter(name, parameters)
            return getattr(self._backend, name)(**parameters)

        return call

    def get_paginator(self, name: str) -> Any:
        def paginate(**parameters: Any) -> list[Any]:
            parameters.pop("PaginationConfig", None)
            return [getattr(self, name)(**parameters)]

        return SimpleNamespace(paginate=paginate)


@dataclass
class FakeAutoScaling:
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, tuple[str, str]] = field(default_factory=dict)
    launches: int = 0

    def describe_auto_scaling_groups(self, **selection: Any) -> Any:
        names = selection.get("AutoScalingGroupNames")
        if names is not None and len(names) > 50:
            raise client_error("DescribeAutoScalingGroups", "ValidationError", "at most 50 names")
        chosen = [group for name, group in self.groups.items() if names is None or name in names]
        for one in selection.get("Filters", []):
            key = one["Name"].removeprefix("tag:")
            chosen = [
                group
                for group in chosen
                if any(tag["Key"] == key and tag["Value"] in one["Values"] for tag in group["Tags"])
            ]
        return {"AutoScalingGroups": chosen}

    def detach_instances(self, **parameters: Any) -> Any:
        group, ids = parameters["AutoScalingGroupName"], parameters["InstanceIds"]
        assert parameters["ShouldDecrementDesiredCapacity"] is False
        if any(self.members.get(key) not in {(group, "InService"), (group, "Standby")} for key in ids):
            raise client_error("DetachInstances", "ValidationError", "not part of the group or not InService")
        for key in ids:
            del self.members[key]
        self.launches += len(ids)
        return {"Activities": []}

    def describe_auto_scaling_instances(self, **parameters: Any) -> Any:
        return {
            "AutoScalingInstances": [
                {"InstanceId": key, "AutoScalingGroupName": group, "LifecycleState": state}
                for key, (group, state) in self.members.items()
                if key in parameters["InstanceIds"]
            ]
        }


@dataclass
class FakeSystemsManager:
    managed: set[str] = field(default_factory=set)
    outputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)  # by command and instance
    sent: int = 0
    names_the_unknown: bool = True

    def send_command(self, **parameters: Any) -> Any:
        if unknown := set(parameters["InstanceIds"]) - self.managed:
            names = f"[[{', '.join(sorted(unknown))}]] " if self.names_the_unknown else ""
            raise client_error("SendCommand", "InvalidInstanceId", f"Instances {names}not in a valid state")
        self.sent += 1
        return {"Command": {"CommandId": f"00000000-0000-0000-0000-{self.sent:012d}"}}

    def list_command_invocations(self, **parameters: Any) -> Any:
        assert parameters["Details"] is True
        return {
            "CommandInvocations": [
                {
                    "CommandId": command,
                    "InstanceId": instance_id,
                    "Status": output.get("Status", "Success"),
                    "CommandPlugins": [{"Output": output["Output"]}] if output.get("Output") else [],
                }
                for (command, instance_id), output in self.outputs.items()
                if command == parameters["CommandId"]
            ]
        }


@dataclass
class FakeEc2:
    instances: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # tags by instance id

    def add(self, count: int, tags: list[dict[str, str]]) -> list[str]:
        ids = [f"i-{len(self.instances) + number:017x}" for number in range(0xA0, 0xA0 + count)]
        self.instances |= dict.fromkeys(ids, tags)
        return ids

    def describe_instances(self, **parameters: Any) -> Any:
        values = {one["Name"]: one["Values"] for one in parameters["Filters"]}
        found = [
            {"InstanceId": key, "Tags": tags}
            for key, tags in self.instances.items()
            if key in values["instance-id"] and {tag["Key"] for tag in tags} & set(values["tag-key"])
        ]
        return {"Reservations": [{"Instances": [instance]} for instance in found]}
