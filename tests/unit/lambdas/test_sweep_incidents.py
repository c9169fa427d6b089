"""sweep_incidents: every incident ends, every node that we let go ends, and nothing else is touched."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from spot_failover.errors import PermanentAwsError, SettingsError
from spot_failover.outcomes import Outcome, Step
from sweep_incidents.surroundings import GroupView, read_machines

from tests.unit.lambdas.fake_aws import NOTICED, TAG, Aws
from tests.unit.lambdas.sweep_kit import (
    BOOT,
    DRAINED,
    GROUP,
    REPLACEMENT,
    REQUESTED,
    WHOLE,
    SweptAccount,
    entry,
)

NODE = "i-00000000000000001"
OTHER = "i-00000000000000002"
REPLACED = "i-00000000000000003"
WAITING_OUT = "i-00000000000000004"
PAST_GRACE = 241.0
PAST_EVERYTHING = 2 * BOOT.total_seconds() + 1

Metrics = Callable[[], dict[tuple[str, str], list[float]]]


@pytest.fixture
def account(aws: Aws) -> SweptAccount:
    return SweptAccount(aws)


def missing(account: SweptAccount, node: str = NODE) -> list[str]:
    incident = account.aws.incident(node)
    assert incident is not None
    (closing,) = [one for one in incident.entries if one.step is Step.CLOSE]
    return list(closing.detail.get("missing", []))


def test_while_nothing_is_open_a_sweep_is_one_call(account: SweptAccount) -> None:
    assert account.sweep(seconds=3600) == {}
    assert account.calls() == ["scan"]


def test_a_whole_incident_is_closed_once_its_node_is_gone(account: SweptAccount, metrics: Metrics) -> None:
    account.tell(NODE, WHOLE)
    account.machines.states[NODE] = "running"
    assert account.sweep(seconds=60) == {}, "its notice still runs"
    account.machines.states[NODE] = "terminated"
    metrics()
    assert account.sweep(seconds=125) == {"close.closed": 1}
    incident = account.aws.incident(NODE)
    assert incident is not None
    assert incident.closed_at == NOTICED + timedelta(seconds=125)
    assert metrics()[("chat", "close.closed")] == [1]
    assert account.sweep(seconds=3600) == {}
    assert account.calls() == ["scan"], "nothing is open any more"


def test_a_replacement_has_a_while_to_tell_its_boot(account: SweptAccount) -> None:
    account.tell(NODE, {**DRAINED})
    account.aws.table.write([entry(NODE, Step.REPLACEMENT, Outcome.IN_SERVICE, 100)])
    assert account.sweep(seconds=130) == {}
    account.tell(NODE, {Step.BOOT: Outcome.BOOTED}, second=131)
    assert account.sweep(seconds=140) == {"close.closed": 1}


def test_a_fleet_without_the_agent_has_its_incidents_closed_without_a_boot(account: SweptAccount) -> None:
    account.tell(NODE, {**REQUESTED, Step.DRAIN: Outcome.UNREPORTED, Step.REPLACEMENT: Outcome.IN_SERVICE})
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed_incomplete": 1}
    assert missing(account) == ["drain"]


def test_a_boot_that_is_never_told_keeps_no_incident_open(account: SweptAccount) -> None:
    account.tell(NODE, DRAINED)
    account.tell(NODE, {Step.REPLACEMENT: Outcome.IN_SERVICE}, second=200)
    assert account.sweep(seconds=319) == {}
    assert account.sweep(seconds=321) == {"close.closed": 1}


def test_what_never_happened_is_told_once_and_the_replacement_has_longer(
    account: SweptAccount, metrics: Metrics
) -> None:
    account.groups.desired, account.groups.members = 1, {REPLACEMENT: "Pending:Wait"}
    account.tell(NODE, {Step.REPLACEMENT_REQUEST: Outcome.DETACHED})
    assert account.sweep(seconds=PAST_GRACE - 2) == {}
    metrics()
    assert account.sweep(seconds=PAST_GRACE) == {
        "deregister.missed": 1,
        "drain_command.missed": 1,
        "drain.missed": 1,
    }
    counted = metrics()
    assert counted[("chat", "drain.missed")] == [1]
    assert account.sweep(seconds=PAST_GRACE + 60) == {}
    account.tell(NODE, {Step.REPLACEMENT: Outcome.IN_SERVICE, Step.BOOT: Outcome.BOOTED}, second=600)
    assert account.sweep(seconds=660) == {"close.closed_incomplete": 1}
    assert missing(account) == ["deregister", "drain_command", "drain"]


def test_an_incident_whose_replacement_never_comes_is_closed_without(account: SweptAccount) -> None:
    account.groups.desired, account.groups.members = 1, {REPLACEMENT: "Pending"}
    account.tell(NODE, DRAINED)
    assert account.sweep(seconds=PAST_EVERYTHING - 10) == {}
    assert account.sweep(seconds=PAST_EVERYTHING) == {"replacement.missed": 1, "close.closed_incomplete": 1}
    assert missing(account) == ["replacement"]
    account.tell(NODE, {Step.REPLACEMENT: Outcome.IN_SERVICE}, second=PAST_EVERYTHING + 60)
    late = account.aws.incident(NODE)
    assert late is not None
    assert late.replacement_in_service_at is not None, "what comes later still counts"


def test_what_a_function_gave_up_on_is_missing_and_not_told_twice(account: SweptAccount) -> None:
    account.tell(
        NODE,
        {
            **WHOLE,
            Step.DEREGISTER: Outcome.FAILED,
            Step.DRAIN_COMMAND: Outcome.MISSED,
            Step.DRAIN: Outcome.CUT,
        },
    )
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed_incomplete": 1}
    assert missing(account) == ["deregister", "drain_command"]


@pytest.mark.parametrize("state", ["pending", "running", "stopping", "stopped"])
def test_a_detached_node_that_outlives_its_notice_is_ended(account: SweptAccount, state: str) -> None:
    account.tell(NODE, WHOLE)
    account.machines.states[NODE] = state
    assert account.sweep(seconds=PAST_GRACE - 2) == {}
    assert account.sweep(seconds=PAST_GRACE) == {"node_end.ended": 1}
    assert account.machines.states[NODE] == "terminated"
    assert account.sweep(seconds=PAST_GRACE + 60) == {"close.closed": 1}
    incident = account.aws.incident(NODE)
    assert incident is not None
    assert incident.node_ended_at == NOTICED + timedelta(seconds=PAST_GRACE)


@pytest.mark.parametrize(
    "request_outcome",
    [Outcome.MISSED, Outcome.FAILED, Outcome.LEFT_TO_GROUP, Outcome.LEFT_TO_CAPACITY_REBALANCING],
)
def test_a_node_that_we_did_not_detach_is_not_ended(account: SweptAccount, request_outcome: Outcome) -> None:
    account.tell(NODE, {**DRAINED, Step.REPLACEMENT_REQUEST: request_outcome})
    account.machines.states[NODE] = "running"
    account.sweep(seconds=PAST_EVERYTHING)
    assert account.machines.states[NODE] == "running"


def test_a_node_that_somebody_else_had_detached_is_theirs(account: SweptAccount) -> None:
    account.tell(NODE, {**DRAINED, Step.REPLACEMENT_REQUEST: Outcome.ALREADY_DETACHED})
    account.machines.states[NODE] = "running"
    account.sweep(seconds=PAST_EVERYTHING)
    assert account.machines.states[NODE] == "running"


def test_a_detach_whose_answer_got_lost_is_ours(account: SweptAccount) -> None:
    lost = {"action": "autoscaling:DetachInstances", "code": "InternalFailure"}
    account.aws.table.write([entry(NODE, Step.REPLACEMENT_REQUEST, Outcome.RETRYING, 1, **lost)])
    account.tell(NODE, {**WHOLE, Step.REPLACEMENT_REQUEST: Outcome.ALREADY_DETACHED}, second=3)
    account.machines.states[NODE] = "stopped"
    account.sweep(seconds=PAST_GRACE)
    assert account.machines.states[NODE] == "terminated"


def test_a_detach_whose_record_got_lost_shows_by_the_launch_after_it(account: SweptAccount) -> None:
    account.tell(NODE, {**WHOLE, Step.REPLACEMENT_REQUEST: Outcome.ALREADY_DETACHED})
    account.machines.states[NODE] = "stopped"
    account.sweep(seconds=PAST_GRACE)
    assert account.machines.states[NODE] == "terminated"


def test_an_instance_that_lost_the_fleets_tag_is_nobody_of_ours(account: SweptAccount) -> None:
    account.tell(NODE, WHOLE)
    account.machines.states[NODE] = "running"
    account.machines.untagged.add(NODE)
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed": 1}
    assert account.machines.states[NODE] == "running"


def test_a_detached_node_that_somebody_took_into_a_group_of_theirs_is_kept(account: SweptAccount) -> None:
    account.tell(NODE, WHOLE)
    account.machines.states[NODE] = "running"
    account.groups.elsewhere[NODE] = "theirs"
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed": 1}
    assert account.machines.states[NODE] == "running"


def test_one_node_that_cannot_be_ended_holds_up_no_other_and_rings(account: SweptAccount) -> None:
    for node in (NODE, OTHER):
        account.tell(node, WHOLE)
        account.machines.states[node] = "stopped"
    account.machines.protected.add(NODE)
    with pytest.raises(PermanentAwsError, match="OperationNotPermitted"):
        account.sweep(seconds=PAST_GRACE)
    assert account.machines.states == {NODE: "stopped", OTHER: "terminated"}
    with pytest.raises(PermanentAwsError):
        account.sweep(seconds=PAST_GRACE + 60)
    incident = account.aws.incident(NODE)
    assert incident is not None
    assert sum(one.step is Step.NODE_END for one in incident.entries) == 1, "told once, not every minute"
    account.machines.protected.clear()
    assert account.sweep(seconds=PAST_GRACE + 120) == {"node_end.ended": 1}


@pytest.mark.parametrize("call", ["describe_auto_scaling_instances", "terminate_instances"])
def test_a_node_that_could_not_be_ended_yet_keeps_its_incident_open(account: SweptAccount, call: str) -> None:
    account.tell(NODE, WHOLE)
    account.machines.states[NODE] = "stopped"
    account.aws.journal.fail(call, "RequestLimitExceeded", times=1)
    account.sweep(seconds=PAST_EVERYTHING)
    assert "close.closed_incomplete" not in account.sweep(seconds=PAST_EVERYTHING + 60)
    assert account.machines.states[NODE] == "terminated"
    assert account.sweep(seconds=PAST_EVERYTHING + 120) == {"close.closed": 1}


def test_a_node_that_can_never_be_ended_keeps_no_incident_open(account: SweptAccount) -> None:
    account.tell(NODE, WHOLE)
    account.machines.states[NODE] = "stopped"
    account.machines.protected.add(NODE)
    with pytest.raises(PermanentAwsError):
        account.sweep(seconds=PAST_GRACE)
    with pytest.raises(PermanentAwsError):
        account.sweep(seconds=PAST_GRACE + 16 * 60)
    assert missing(account) == ["node_end"]
    assert account.sweep(seconds=PAST_GRACE + 17 * 60) == {}


@pytest.mark.parametrize("told", [{}, {Step.REPLACEMENT_REQUEST: Outcome.FAILED}])
def test_a_replacement_that_was_not_requested_is_requested_while_the_notice_runs(
    account: SweptAccount, told: dict[Step, Outcome]
) -> None:
    account.groups.desired, account.groups.members = 1, {NODE: "InService"}
    account.tell(NODE, {Step.DEREGISTER: Outcome.DEREGISTERED, **told})
    assert account.sweep(seconds=20) == {}, "until then it is its own function's business"
    assert account.sweep(seconds=60) == {"replacement_request.detached": 1}
    assert account.groups.members == {}
    incident = account.aws.incident(NODE)
    assert incident is not None
    assert incident.awaits_replacement


def test_a_request_that_is_still_tried_is_left_to_its_function(account: SweptAccount) -> None:
    account.groups.desired, account.groups.members = 1, {NODE: "InService"}
    for second in (1, 20, 45):
        account.tell(NODE, {Step.REPLACEMENT_REQUEST: Outcome.RETRYING}, second=second)
    assert account.sweep(seconds=60) == {}
    assert account.sweep(seconds=66) == {"replacement_request.detached": 1}


def test_a_replacement_that_was_requested_is_not_requested_again(account: SweptAccount) -> None:
    account.groups.desired, account.groups.members = 1, {NODE: "InService"}
    account.tell(NODE, REQUESTED)
    assert "detach_instances" not in (account.sweep(seconds=60), account.calls())[1]


def test_past_its_deadline_a_node_that_serves_on_in_its_group_is_left_there(account: SweptAccount) -> None:
    account.groups.desired, account.groups.members = 1, {NODE: "InService"}
    account.machines.states[NODE] = "running"
    account.tell(
        NODE,
        {
            Step.DEREGISTER: Outcome.MISSED,
            Step.DRAIN_COMMAND: Outcome.MISSED,
            Step.REPLACEMENT_REQUEST: Outcome.MISSED,
        },
    )
    assert account.sweep(seconds=PAST_GRACE) == {"drain.missed": 1, "close.closed_incomplete": 1}
    assert account.groups.members == {NODE: "InService"}
    assert account.machines.states == {NODE: "running"}
    assert "replacement" not in missing(account)


def test_a_group_that_launches_nothing_is_told_with_its_reason_and_not_fought(
    account: SweptAccount, metrics: Metrics
) -> None:
    account.groups.desired, account.groups.suspended = 2, ("Launch",)
    for node in (NODE, OTHER):
        account.tell(node, DRAINED)
    assert account.sweep(seconds=50) == {}
    metrics()
    assert account.sweep(seconds=62) == {"replacement.group_lags": 2}
    assert metrics()[("chat", "group.unfilled")] == [2]
    assert account.sweep(seconds=122) == {}, "each incident tells it once"
    assert metrics()[("chat", "group.unfilled")] == [2], "the metric goes on"
    incident = account.aws.incident(NODE)
    assert incident is not None
    (lag,) = [one for one in incident.entries if one.outcome is Outcome.GROUP_LAGS]
    assert lag.detail == {"group": GROUP, "desired": 2, "unfilled": 2, "suspended": ["Launch"]}


@pytest.mark.parametrize(
    ("states", "unfilled"),
    [
        ([], 2),
        (["InService"], 1),
        (["InService", "Pending:Wait"], 0),
        (["InService", "Terminating:Wait", "Detaching", "Standby"], 1),
        (["InService", "InService", "InService"], 0),
    ],
)
def test_a_gap_is_what_is_neither_there_nor_coming(states: list[str], unfilled: int) -> None:
    members = {str(number): state for number, state in enumerate(states)}
    assert GroupView("g", "chat", 2, members, ()).unfilled == unfilled


def test_a_launch_under_way_is_no_lag(account: SweptAccount) -> None:
    account.groups.desired, account.groups.members = 1, {REPLACEMENT: "Pending:Wait"}
    account.tell(NODE, DRAINED)
    assert account.sweep(seconds=100) == {}


def test_a_boot_that_never_ends_is_told_once(account: SweptAccount) -> None:
    account.groups.desired, account.groups.members = 1, {REPLACEMENT: "Pending:Wait"}
    account.machines.states[REPLACEMENT] = "running"
    account.machines.launched_at[REPLACEMENT] = NOTICED + timedelta(seconds=10)
    account.tell(NODE, DRAINED)
    assert account.sweep(seconds=BOOT.total_seconds() + 5) == {}
    assert account.sweep(seconds=BOOT.total_seconds() + 11) == {"boot.missed": 1}
    assert account.sweep(seconds=BOOT.total_seconds() + 71) == {}
    assert account.machines.states[REPLACEMENT] == "running", "its launch hook ends it"


def test_two_sweeps_at_once_tell_everything_once(account: SweptAccount) -> None:
    nodes = [f"i-{number:017x}" for number in range(1, 13)]
    for node in nodes:
        account.tell(node, {Step.REPLACEMENT_REQUEST: Outcome.NO_GROUP})
    account.now = NOTICED + timedelta(seconds=PAST_GRACE)
    first, second = account.sweep_function(), account.sweep_function()
    counts: list[dict[str, int]] = []
    write = first._open.amend

    def amend_after_the_other(amendments: object) -> frozenset[str]:
        counts.append(second.handle())
        return write(amendments)  # type: ignore[arg-type]

    first._open.amend = amend_after_the_other  # type: ignore[method-assign]
    counts.append(first.handle())
    told = ("deregister.missed", "drain_command.missed", "drain.missed", "close.closed_incomplete")
    assert counts == [dict.fromkeys(told, 12), {}]
    for node in nodes:
        incident = account.aws.incident(node)
        assert incident is not None
        assert sum(one.step is Step.CLOSE for one in incident.entries) == 1


def test_a_late_copy_of_a_notice_opens_no_closed_incident_again(account: SweptAccount) -> None:
    account.tell(NODE, WHOLE)
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed": 1}
    account.tell(NODE, dict.fromkeys(REQUESTED, Outcome.MISSED), second=900)
    assert account.sweep(seconds=960) == {}
    assert account.sweep(seconds=1020) == {}
    assert account.calls() == ["scan"]


MUCH_EARLIER = -600.0
STALE = dict.fromkeys(REQUESTED, Outcome.MISSED)


def earlier_notice(
    account: SweptAccount, outcomes: dict[Step, Outcome], *, told: float, node: str = NODE
) -> None:
    """Write what came of a notice that was given ten minutes before the other one."""
    early = timedelta(seconds=MUCH_EARLIER)
    account.aws.table.write(
        replace(one, noticed_at=one.noticed_at + early, deadline=one.deadline + early)
        for one in (entry(node, step, outcome, told) for step, outcome in outcomes.items())
    )


def test_a_notice_after_one_that_was_told_late_has_its_own_time(account: SweptAccount) -> None:
    """The late one's deadline is long past when the real notice comes."""
    account.machines.states[NODE] = "running"
    earlier_notice(account, STALE, told=-5)
    account.tell(NODE, DRAINED)
    account.tell(NODE, {Step.REPLACEMENT: Outcome.IN_SERVICE, Step.BOOT: Outcome.BOOTED}, second=30)
    assert account.sweep(seconds=40) == {}
    assert account.sweep(seconds=PAST_GRACE - 2) == {}
    assert account.machines.states[NODE] == "running", "not before the real notice's end"
    assert account.sweep(seconds=PAST_GRACE) == {"node_end.ended": 1}


def test_a_request_that_was_missed_under_an_earlier_notice_is_made_under_the_next(
    account: SweptAccount,
) -> None:
    account.groups.desired, account.groups.members = 1, {NODE: "InService"}
    earlier_notice(account, STALE, told=-5)
    account.tell(NODE, {Step.DEREGISTER: Outcome.DEREGISTERED})
    assert account.sweep(seconds=60) == {"replacement_request.detached": 1}


def test_a_notice_after_a_closing_opens_the_incident_again(account: SweptAccount) -> None:
    account.machines.states[NODE] = "running"
    account.groups.desired, account.groups.members = 1, {NODE: "InService"}
    earlier_notice(account, STALE, told=-300)
    assert account.sweep(seconds=-240) == {"drain.missed": 1, "close.closed_incomplete": 1}
    account.groups.members = {REPLACEMENT: "InService"}
    account.tell(NODE, WHOLE)
    reopened = account.aws.incident(NODE)
    assert reopened is not None
    assert reopened.closed_at is None
    assert account.sweep(seconds=130) == {}
    assert account.sweep(seconds=PAST_GRACE) == {"node_end.ended": 1}
    assert account.sweep(seconds=PAST_GRACE + 60) == {"close.closed": 1}
    closed = account.aws.incident(NODE)
    assert closed is not None
    assert closed.closed_at == NOTICED + timedelta(seconds=PAST_GRACE + 60)


def test_hundreds_of_copies_of_a_notice_are_cleared_in_bounded_steps(account: SweptAccount) -> None:
    account.tell(NODE, WHOLE)
    for second in range(100):
        account.tell(NODE, {Step.DEREGISTER: Outcome.NOT_REGISTERED}, second=2 + second / 2)
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed": 1}
    assert account.sweep(seconds=PAST_GRACE + 60) == {}
    account.sweep(seconds=PAST_GRACE + 120)
    assert account.calls() == ["scan"]


def test_many_incidents_are_closed_in_few_calls(account: SweptAccount) -> None:
    nodes = [f"i-{number:017x}" for number in range(1, 31)]
    account.aws.table.write(entry(node, step, outcome) for node in nodes for step, outcome in WHOLE.items())
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed": 30}
    calls = account.calls()
    assert {name: calls.count(name) for name in sorted(set(calls))} == {
        "describe_instances": 1,
        "query": 1,
        "scan": 1,
        "transact_write_items": 2,
    }


def test_a_thousand_nodes_are_looked_at_in_five_calls(account: SweptAccount) -> None:
    nodes = [f"i-{number:017x}" for number in range(1, 1001)]
    account.machines.states = dict.fromkeys(nodes, "running")
    assert len(read_machines(account.ec2, nodes, tag_key=TAG)) == 1000
    assert account.calls() == ["describe_instances"] * 5


def test_what_aws_does_not_serve_is_left_to_the_next_sweep(account: SweptAccount, metrics: Metrics) -> None:
    account.tell(NODE, WHOLE)
    account.aws.journal.fail("describe_instances", "RequestLimitExceeded", times=1)
    assert account.sweep(seconds=PAST_GRACE) == {}
    assert metrics()[("none", "sweep.cut_short")] == [1]
    assert account.sweep(seconds=PAST_GRACE + 60) == {"close.closed": 1}


def test_a_replacement_is_requested_and_recorded_though_ec2_tells_nothing(account: SweptAccount) -> None:
    account.groups.desired, account.groups.members = 1, {NODE: "InService"}
    account.tell(NODE, {Step.DEREGISTER: Outcome.DEREGISTERED})
    earlier_notice(account, WHOLE, told=-500, node=OTHER)
    account.aws.journal.fail("describe_instances", "RequestLimitExceeded")
    assert account.sweep(seconds=60) == {"replacement_request.detached": 1}
    calls = account.calls()
    assert calls.index("transact_write_items") < calls.index("describe_instances")


@pytest.mark.parametrize(
    ("call", "closed"),
    [
        ("describe_auto_scaling_groups", {REPLACED}),
        ("describe_instances", {WAITING_OUT}),
        ("describe_auto_scaling_instances", {REPLACED, WAITING_OUT}),
    ],
)
def test_a_lookup_that_fails_keeps_open_only_what_depends_on_it(
    account: SweptAccount, call: str, closed: set[str]
) -> None:
    account.tell(REPLACED, WHOLE)
    account.tell(WAITING_OUT, {**DRAINED, Step.REPLACEMENT_REQUEST: Outcome.FAILED})
    account.tell(NODE, WHOLE)
    account.machines.states[NODE] = "running"
    account.aws.journal.fail(call, "RequestLimitExceeded")
    account.sweep(seconds=PAST_EVERYTHING)
    assert {node for node in (NODE, REPLACED, WAITING_OUT) if account.is_closed(node)} == closed
    account.aws.journal.faults.clear()
    account.sweep(seconds=PAST_EVERYTHING + 60)
    account.sweep(seconds=PAST_EVERYTHING + 120)
    assert all(account.is_closed(node) for node in (NODE, REPLACED, WAITING_OUT))


def test_a_transaction_that_is_refused_holds_up_no_other(account: SweptAccount) -> None:
    nodes = [f"i-{number:017x}" for number in range(1, 121)]
    account.aws.table.write(entry(node, step, outcome) for node in nodes for step, outcome in WHOLE.items())
    account.aws.journal.fail("transact_write_items", "ThrottlingException", times=1)
    assert account.sweep(seconds=PAST_GRACE) == {"close.closed": 70}
    assert account.sweep(seconds=PAST_GRACE + 60) == {"close.closed": 50}


def test_a_notice_that_runs_comes_before_those_that_wait_for_capacity(
    account: SweptAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep_incidents.sweep.MOST_INCIDENTS", 1)
    account.groups.desired, account.groups.members = 2, {NODE: "InService"}
    earlier_notice(account, DRAINED, told=-500, node=OTHER)
    account.tell(NODE, {Step.DEREGISTER: Outcome.DEREGISTERED})
    assert account.sweep(seconds=60) == {"replacement_request.detached": 1}


def test_what_aws_refuses_raises_the_functions_alarm(account: SweptAccount) -> None:
    account.aws.journal.fail("scan", "AccessDeniedException", times=1)
    with pytest.raises(PermanentAwsError, match="dynamodb:Scan"):
        account.sweep(seconds=PAST_GRACE)


ENVIRONMENT = {
    "FLEET_TAG_KEY": TAG,
    "INCIDENTS_TABLE": "incidents",
    "INCIDENTS_FLEET_INDEX": "by_fleet",
    "INCIDENTS_OPEN_INDEX": "open",
    "INCIDENT_TTL_DAYS": "90",
    "GRACE_SECONDS": "120",
    "BOOT_LIMIT_SECONDS": "1800",
    "POWERTOOLS_SERVICE_NAME": "sweep_incidents",
    "POWERTOOLS_METRICS_NAMESPACE": "SpotFailover",
}


def load_handler(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delitem(sys.modules, "sweep_incidents.handler", raising=False)
    return importlib.import_module("sweep_incidents.handler").handler


def test_the_handler_sweeps_and_answers_with_what_it_wrote(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    aws.table.write([entry(NODE, Step.REPLACEMENT_REQUEST, Outcome.NO_GROUP)])
    context = SimpleNamespace(
        function_name="function",
        memory_limit_in_mb=512,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:function",
        aws_request_id="52fdfc07-2182-154f-163f-5f0f9a621d72",
    )
    answer = load_handler(monkeypatch)({}, context)
    assert answer["close.closed_incomplete"] == 1, "the sample's notice is long past"


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_each_missing_setting_fails_the_cold_start_by_name(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv(missing)
    with pytest.raises(SettingsError, match=missing):
        load_handler(monkeypatch)
