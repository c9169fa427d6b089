"""What a storm came to, from entries as the local AWS writes them."""

from __future__ import annotations

from typing import Any

import pytest

from bench.control_plane.load import Sample, load_between
from bench.control_plane.outcome import (
    Action,
    CallCount,
    Notices,
    complete,
    count_calls,
    last_action_seconds,
    percentile,
    reached,
    seconds_of,
    total,
)

NOTICES = Notices({"i-1": 100.0, "i-2": 100.5}, seconds=120.0)


def target(at: float, instance_id: str, state: str, group: str = "tg") -> dict[str, Any]:
    return {
        "kind": "target_state",
        "at": at,
        "instance_id": instance_id,
        "target_group": group,
        "state": state,
    }


def lifecycle(at: float, instance_id: str, before: str | None, state: str) -> dict[str, Any]:
    entry = {"kind": "lifecycle", "at": at, "instance_id": instance_id, "group": "fleet"}
    return {**entry, "before": before, "state": state}


def command(at: float, instance_id: str) -> dict[str, Any]:
    return {"kind": "command", "at": at, "instance_id": instance_id, "status": "Pending"}


def everything(instance_id: str, at: float) -> list[dict[str, Any]]:
    return [
        target(at, instance_id, "draining"),
        command(at, instance_id),
        lifecycle(at, instance_id, "InService", "Detaching"),
        lifecycle(at, f"{instance_id}-new", None, "Pending"),
    ]


def test_storm_in_which_all_was_done_is_complete_and_its_last_action_counts() -> None:
    found = reached([*everything("i-1", 101.0), *everything("i-2", 103.5)], NOTICES)
    assert complete(found, NOTICES)
    assert last_action_seconds(found, NOTICES) == 3.5
    assert seconds_of(found, NOTICES, Action.TOLD) == [1.0, 3.0]


def test_what_came_after_the_deadline_is_not_reached_and_counts_to_the_deadline() -> None:
    found = reached([*everything("i-1", 101.0), *everything("i-2", 221.0)], NOTICES)
    assert not complete(found, NOTICES)
    assert set(found[Action.TOLD]) == {"i-1"}
    assert last_action_seconds(found, NOTICES) == 120.5


def test_node_that_is_registered_again_has_not_been_deregistered() -> None:
    held = [target(101, "i-1", "draining"), target(102, "i-1", "initial"), target(103, "i-1", "healthy")]
    assert not reached(held, NOTICES)[Action.DEREGISTERED]
    released = [*held, target(107, "i-1", "draining"), target(110, "i-1", "unused")]
    assert reached(released, NOTICES)[Action.DEREGISTERED] == {"i-1": 107}


def test_node_in_two_target_groups_has_to_leave_both() -> None:
    entries = [target(90, "i-1", "healthy", "one"), target(90, "i-1", "healthy", "two")]
    entries.append(target(101, "i-1", "draining", "one"))
    assert not reached(entries, NOTICES)[Action.DEREGISTERED]
    entries.append(target(104, "i-1", "draining", "two"))
    assert reached(entries, NOTICES)[Action.DEREGISTERED] == {"i-1": 104}


def test_nodes_own_end_is_no_deregistration() -> None:
    assert not reached([target(220.0, "i-1", "unused")], NOTICES)[Action.DEREGISTERED]


def test_node_that_left_is_replaced_only_when_its_group_launched_one_more() -> None:
    left = [
        lifecycle(101, "i-1", "InService", "Detaching"),
        lifecycle(101, "i-2", "InService", "Detaching"),
        lifecycle(102, "i-3", None, "Pending"),
    ]
    assert reached(left, NOTICES)[Action.REPLACED] == {"i-1": 102}
    launched = [*left, lifecycle(105, "i-4", None, "Pending")]
    assert reached(launched, NOTICES)[Action.REPLACED] == {"i-1": 102, "i-2": 105}


def test_launches_before_the_notice_replace_nobody() -> None:
    entries = [lifecycle(90, "i-0", None, "Pending"), lifecycle(101, "i-1", "InService", "Detaching")]
    assert not reached(entries, NOTICES)[Action.REPLACED]


def test_calls_of_functions_count_with_refusals_and_lambdas_own_do_not() -> None:
    def call(action: str, result: str = "ok", **given: Any) -> dict[str, Any]:
        return {"at": 101.0, "role": "mine", "by": "api", "action": action, "result": result, **given}

    calls = [
        call("ssm:SendCommand"),
        call("ssm:SendCommand", "ThrottlingException"),
        call("autoscaling:DetachInstances", "ValidationError"),
        call("sqs:ReceiveMessage", by="lambda.amazonaws.com"),
        call("ec2:DescribeInstances", role="others"),
        call("ec2:DescribeInstances", role=None),
        call("ssm:SendCommand", at=300.0),
    ]
    counts = count_calls(calls, roles=["mine"], until=200.0)
    assert counts == {
        "autoscaling:DetachInstances": CallCount(made=1, throttled=0, failed=1),
        "ssm:SendCommand": CallCount(made=2, throttled=1, failed=0),
    }
    assert total(counts) == CallCount(made=3, throttled=1, failed=1)


def test_percentiles_are_figures_that_were_measured() -> None:
    assert [percentile([1, 2, 3, 4], percent) for percent in (50, 95, 100)] == [2, 4, 4]
    assert percentile([7], 50) == 7


def test_endpoint_is_the_bottleneck_while_it_uses_a_whole_processor() -> None:
    samples = [Sample(0.0, 0.0, 0.0), Sample(1.0, 1.0, 1.5), Sample(2.0, 1.25, 2.0), Sample(9.0, 9.0, 9.0)]
    load = load_between(samples, 0.0, 2.5)
    assert load.endpoint_busy == 0.5
    assert load.endpoint_processors == pytest.approx(0.625)
    assert load.machine_processors == pytest.approx(1.0)


def test_time_without_samples_has_no_load() -> None:
    with pytest.raises(ValueError, match="1 samples"):
        load_between([Sample(0.0, 0.0, 0.0)], 0.0, 5.0)
