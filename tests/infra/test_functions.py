"""Each function stands alone: own queue, dead-letter queue, alarms, role and log group."""

from __future__ import annotations

from typing import Any

import pytest
from spot_failover import clients
from spot_failover.notice_function import LATEST_START
from track_incident.track_function import LATEST_START as LATEST_LOOK

from tests.infra.templates import Template

FUNCTIONS = ("deregister_target", "drain_node", "request_replacement", "track_incident")
SHARED_ENVIRONMENT = {
    "FLEET_TAG_KEY",
    "INCIDENTS_TABLE",
    "INCIDENT_TTL_DAYS",
    "NOTICE_SECONDS",
    "QUEUE_URL",
    "DEAD_LETTER_QUEUE_URL",
    "POWERTOOLS_SERVICE_NAME",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_LOG_LEVEL",
}
OWN_ENVIRONMENT = {
    "deregister_target": {"HOLD_RESERVE_SECONDS"},
    "drain_node": {"DRAIN_DOCUMENT"},
    "track_incident": {"INCIDENTS_FLEET_INDEX"},
}


def function_named(control_plane: Template, name: str) -> tuple[str, Any]:
    for logical_id, function in control_plane.resources("AWS::Lambda::Function").items():
        if function["Handler"] == f"{name}.handler.handler":
            return logical_id, function
    raise AssertionError(f"no function has the handler {name}.handler.handler")


def queue_of(control_plane: Template, name: str) -> tuple[str, Any]:
    """Return the queue that feeds a function, by its event source mapping."""
    logical_id, _ = function_named(control_plane, name)
    for mapping in control_plane.resources("AWS::Lambda::EventSourceMapping").values():
        if mapping["FunctionName"] == {"Ref": logical_id}:
            queue = mapping["EventSourceArn"]["Fn::GetAtt"][0]
            return queue, control_plane.body["Resources"][queue]["Properties"]
    raise AssertionError(f"nothing feeds {name}")


def test_there_are_these_functions_and_no_other(control_plane: Template) -> None:
    """In particular none that the CDK brings along for a custom resource."""
    handlers = {f["Handler"] for f in control_plane.resources("AWS::Lambda::Function").values()}
    assert handlers == {f"{name}.handler.handler" for name in (*FUNCTIONS, "sweep_incidents")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_settings_are_complete_and_point_at_the_function_itself(control_plane: Template, name: str) -> None:
    _, function = function_named(control_plane, name)
    environment = function["Environment"]["Variables"]
    assert set(environment) == SHARED_ENVIRONMENT | OWN_ENVIRONMENT.get(name, set())
    queue, properties = queue_of(control_plane, name)
    dead_letters = properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
    assert environment["QUEUE_URL"] == {"Ref": queue}
    assert environment["DEAD_LETTER_QUEUE_URL"] == {"Ref": dead_letters}
    assert environment["POWERTOOLS_SERVICE_NAME"] == name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_runs_on_arm_with_the_newest_python_and_keeps_its_logs_for_a_while(
    control_plane: Template, name: str
) -> None:
    _, function = function_named(control_plane, name)
    assert (function["Architectures"], function["Runtime"]) == (["arm64"], "python3.14")
    log_group = control_plane.body["Resources"][function["LoggingConfig"]["LogGroup"]["Ref"]]["Properties"]
    assert log_group["RetentionInDays"] == 30


@pytest.mark.parametrize("name", FUNCTIONS)
def test_messages_come_at_once_in_small_batches_and_fail_one_by_one(
    control_plane: Template, name: str
) -> None:
    logical_id, _ = function_named(control_plane, name)
    (mapping,) = [
        m
        for m in control_plane.resources("AWS::Lambda::EventSourceMapping").values()
        if m["FunctionName"] == {"Ref": logical_id}
    ]
    assert mapping["BatchSize"] == 10
    assert mapping.get("MaximumBatchingWindowInSeconds", 0) == 0
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert mapping.get("Enabled", True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_hidden_message_outlasts_the_function_and_leaves_time_for_another_try(
    control_plane: Template, name: str
) -> None:
    _, function = function_named(control_plane, name)
    _, queue = queue_of(control_plane, name)
    assert function["Timeout"] <= queue["VisibilityTimeout"] <= 30


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_longest_call_leaves_a_function_time_to_settle_its_messages(
    control_plane: Template, name: str
) -> None:
    _, function = function_named(control_plane, name)
    assert longest_call(clients.CLIENT_CONFIG) + 3 < function["Timeout"]
    assert longest_call(clients.QUEUE_CONFIG) <= longest_call(clients.RECORD_CONFIG) <= 12
    # Every call that is begun late in a function's work, and then takes longest, is cut off by the timeout.
    assert max(LATEST_START, LATEST_LOOK).total_seconds() <= function["Timeout"] / 2


def longest_call(config: Any) -> float:
    """Return the seconds of a call whose every attempt runs into its timeouts, waits between them included.

    Standard mode waits up to 1 s after an attempt that was throttled, and up to 5 s more where the service
    asks for it (botocore/retries/standard.py).
    """
    assert config.retries["mode"] == "standard"
    attempts = config.retries["total_max_attempts"]
    return float(attempts * (config.connect_timeout + config.read_timeout) + (attempts - 1) * (1 + 5))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_cannot_be_handled_ends_in_a_dead_letter_queue_with_an_alarm_that_tells_the_topic(
    control_plane: Template, name: str
) -> None:
    _, queue = queue_of(control_plane, name)
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 150
    dead_letters = queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
    properties = control_plane.body["Resources"][dead_letters]["Properties"]
    assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600
    (alarm,) = [
        alarm
        for alarm in control_plane.resources("AWS::CloudWatch::Alarm").values()
        if alarm.get("Dimensions")
        == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [dead_letters, "QueueName"]}}]
    ]
    assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert name in control_plane.text(alarm["AlarmDescription"])
    assert alarm["AlarmActions"] == ["arn:aws:sns:us-east-1:123456789012:pager"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_broken_function_raises_an_alarm_within_a_minute(control_plane: Template, name: str) -> None:
    logical_id, _ = function_named(control_plane, name)
    (alarm,) = [
        alarm
        for alarm in control_plane.resources("AWS::CloudWatch::Alarm").values()
        if alarm.get("Dimensions") == [{"Name": "FunctionName", "Value": {"Ref": logical_id}}]
    ]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("AWS/Lambda", "Errors", "Sum")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (60, 1)
    assert alarm["TreatMissingData"] == "notBreaching"
    assert name in control_plane.text(alarm["AlarmDescription"])
    assert alarm["AlarmActions"] == ["arn:aws:sns:us-east-1:123456789012:pager"]


def test_an_entry_that_no_function_could_write_rings_whatever_its_fleet(control_plane: Template) -> None:
    alarms = control_plane.resources("AWS::CloudWatch::Alarm").values()
    (alarm,) = [alarm for alarm in alarms if "Metrics" in alarm]
    (query,) = alarm["Metrics"]
    assert query["Expression"] == 'SELECT SUM("incident.unrecorded") FROM SCHEMA("SpotFailover", fleet)'
    assert (query["Period"], alarm["EvaluationPeriods"]) == (60, 1)
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert alarm["TreatMissingData"] == "notBreaching"
    assert alarm["AlarmActions"] == ["arn:aws:sns:us-east-1:123456789012:pager"]


def test_no_two_functions_share_a_queue_a_role_or_a_log_group(control_plane: Template) -> None:
    functions = [function_named(control_plane, name)[1] for name in FUNCTIONS]
    queues = {queue_of(control_plane, name)[0] for name in FUNCTIONS}
    roles = {str(function["Role"]) for function in functions}
    log_groups = {str(function["LoggingConfig"]) for function in functions}
    assert len(queues) == len(roles) == len(log_groups) == len(FUNCTIONS)


def test_every_queue_is_encrypted_and_refuses_plain_http(control_plane: Template) -> None:
    queues = control_plane.resources("AWS::SQS::Queue")
    assert len(queues) == 2 * len(FUNCTIONS)
    refusing = {
        policy["Queues"][0]["Ref"]
        for policy in control_plane.resources("AWS::SQS::QueuePolicy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and statement["Action"] == "sqs:*"
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    assert refusing == set(queues)
    assert all(queue["SqsManagedSseEnabled"] for queue in queues.values())


def test_only_our_rules_may_send_into_a_queue(control_plane: Template) -> None:
    rules = set(control_plane.resources("AWS::Events::Rule"))
    for policy in control_plane.resources("AWS::SQS::QueuePolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                assert statement["Principal"] == {"Service": "events.amazonaws.com"}
                assert statement["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::GetAtt"][0] in rules


def test_an_event_that_cannot_be_delivered_is_kept_with_the_functions_own_dead_letters(
    control_plane: Template,
) -> None:
    for rule in control_plane.resources("AWS::Events::Rule").values():
        for target in rule["Targets"]:
            queue = control_plane.body["Resources"][target["Arn"]["Fn::GetAtt"][0]]["Properties"]
            assert target["DeadLetterConfig"]["Arn"] == queue["RedrivePolicy"]["deadLetterTargetArn"]


def test_incidents_cost_nothing_at_rest_expire_and_can_be_restored(control_plane: Template) -> None:
    table = control_plane.only("AWS::DynamoDB::Table")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["incident", "entry"]
    by_fleet, what_is_open = table["GlobalSecondaryIndexes"]
    assert by_fleet["IndexName"] == "by_fleet"
    assert [key["AttributeName"] for key in by_fleet["KeySchema"]] == ["fleet", "entry"]
    assert by_fleet["Projection"] == {"ProjectionType": "ALL"}
    assert what_is_open["IndexName"] == "open"
    assert [key["AttributeName"] for key in what_is_open["KeySchema"]] == ["open_incident"]
    assert what_is_open["Projection"] == {
        "ProjectionType": "INCLUDE",
        "NonKeyAttributes": ["fleet", "noticed_at", "deadline"],
    }
