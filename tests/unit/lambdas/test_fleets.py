"""Nodes and fleets are looked up once, whatever the number of pages the answer has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from spot_failover.fleets import Fleet, FleetDirectory, Group, find_nodes

from tests.unit.lambdas.fake_aws import NOTICED, TAG, Aws
from tests.unit.lambdas.fake_services import client


def test_nodes_are_told_from_foreign_and_unknown_instances_by_their_own_tag(aws: Aws) -> None:
    group = {"Key": "aws:autoscaling:groupName", "Value": "spot-failover-chat"}
    nodes = [_launch({"Key": TAG, "Value": "chat"}, group) for _ in range(2)]
    foreign = [_launch({"Key": "Name", "Value": TAG})]
    found = find_nodes(client("ec2"), [*nodes, *foreign, "i-00000000000000000"], tag_key=TAG)
    assert found.keys() == set(nodes)
    assert {node.fleet for node in found.values()} == {"chat"}
    assert {node.group_name for node in found.values()} == {"spot-failover-chat"}


def test_a_blank_tag_names_no_fleet(aws: Aws) -> None:
    blank = aws.add_instances(1, tags=[{"Key": TAG, "Value": ""}]) + aws.add_instances(
        1, tags=[{"Key": TAG, "Value": " "}]
    )
    assert find_nodes(aws.ec2, blank, tag_key=TAG) == {}
    _add_group(aws, "")
    assert FleetDirectory(aws.autoscaling, tag_key=TAG).fleets_of_groups(["-group"]) == {}


def test_more_groups_than_one_call_names_are_asked_for_in_several(aws: Aws) -> None:
    _add_group(aws, "chat")
    names = ["chat-group", *(f"foreign-{number:02}" for number in range(60))]
    directory = FleetDirectory(aws.autoscaling, tag_key=TAG)
    assert directory.fleets_of_groups(names) == {"chat-group": "chat"}
    asked = [call["AutoScalingGroupNames"] for call in aws.journal.of("describe_auto_scaling_groups")]
    assert [len(one) for one in asked] == [50, 11]


def test_a_node_is_still_one_after_its_end(aws: Aws) -> None:
    node = _launch({"Key": TAG, "Value": "chat"})
    client("ec2").terminate_instances(InstanceIds=[node])
    assert find_nodes(client("ec2"), [node], tag_key=TAG).keys() == {node}


def test_nobody_to_look_up_is_no_call(aws: Aws) -> None:
    assert find_nodes(aws.ec2, [], tag_key=TAG) == {}
    assert FleetDirectory(aws.autoscaling, tag_key=TAG).fleets_of_groups([]) == {}
    assert aws.journal.calls == []


def test_several_fleets_cost_one_call_and_only_the_unknown_are_asked_for_again(aws: Aws) -> None:
    for name in ("chat", "code", "batch"):
        _add_group(aws, name)
    directory = FleetDirectory(aws.autoscaling, tag_key=TAG)
    directory.fleets(["chat", "code"], now=NOTICED)
    directory.fleets(["chat", "batch"], now=NOTICED + timedelta(seconds=30))
    asked = [call["Filters"][0]["Values"] for call in aws.journal.of("describe_auto_scaling_groups")]
    assert asked == [["chat", "code"], ["batch"]]


def test_a_fleet_without_a_group_is_asked_for_each_time(aws: Aws) -> None:
    directory = FleetDirectory(aws.autoscaling, tag_key=TAG)
    assert directory.fleets(["chat"], now=NOTICED)["chat"].groups == ()
    _add_group(aws, "chat")
    assert [group.name for group in directory.fleets(["chat"], now=NOTICED)["chat"].groups] == ["chat-group"]


def test_a_forgotten_fleet_is_read_anew(aws: Aws) -> None:
    _add_group(aws, "chat")
    directory = FleetDirectory(aws.autoscaling, tag_key=TAG)
    directory.fleets(["chat"], now=NOTICED)
    aws.groups.groups["chat-group"]["CapacityRebalance"] = True
    assert not directory.fleets(["chat"], now=NOTICED)["chat"].groups[0].capacity_rebalance
    directory.forget("chat")
    assert directory.fleets(["chat"], now=NOTICED)["chat"].groups[0].capacity_rebalance


def test_the_group_of_a_node_is_its_own_or_the_only_one() -> None:
    one, two = (Group(name, "chat", (), False) for name in ("one", "two"))
    assert Fleet("chat", (one,)).group_of(None) == one
    assert Fleet("chat", (one,)).group_of("gone") == one
    assert Fleet("chat", (one, two)).group_of("two") == two
    assert Fleet("chat", (one, two)).group_of(None) is None
    assert Fleet("chat", ()).group_of("one") is None


def test_every_page_of_an_answer_is_read() -> None:
    groups = [
        {"AutoScalingGroupName": name, "Tags": [{"Key": TAG, "Value": "chat"}], "TargetGroupARNs": [name]}
        for name in ("one", "two")
    ]

    class Paged:
        def get_paginator(self, _name: str) -> Any:
            return self

        def paginate(self, **_: Any) -> Any:
            return [{"AutoScalingGroups": [group]} for group in groups]

    paged: Any = Paged()
    fleet = FleetDirectory(paged, tag_key=TAG).fleets(["chat"], now=NOTICED)["chat"]
    assert fleet.target_group_arns == ("one", "two")


def _launch(*tags: dict[str, str]) -> str:
    """Launch an instance in moto's EC2, whose filters and terminated instances are AWS's."""
    specification = [{"ResourceType": "instance", "Tags": list(tags)}]
    answer = client("ec2").run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=specification
    )
    instance_id: str = answer["Instances"][0]["InstanceId"]
    return instance_id


def _add_group(aws: Aws, fleet: str) -> None:
    name = f"{fleet}-group"
    aws.groups.groups[name] = {
        "AutoScalingGroupName": name,
        "Tags": [{"Key": TAG, "Value": fleet}],
        "CapacityRebalance": False,
    }
