"""Events, rules and the queues behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from local_aws.events.patterns import BadPatternError, check_pattern

NOTICE = {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]}


def _rule(bench: Any, name: str, pattern: Any, *, state: str = "ENABLED", let_in: bool = True) -> str:
    """Make a rule with a queue behind it; return the queue's URL."""
    events = bench.aws.client("events")
    rule = events.put_rule(Name=name, EventPattern=json.dumps(pattern), State=state)["RuleArn"]
    url, arn = bench.queue(name)
    if let_in:
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": arn,
                    "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
                }
            ],
        }
        bench.aws.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    return str(url)


def _notice(bench: Any, detail_type: str = "EC2 Spot Instance Interruption Warning", **given: Any) -> str:
    detail = {"instance-id": "i-1", "instance-action": "terminate"}
    return str(bench.aws.control.put_event(source="aws.ec2", detail_type=detail_type, detail=detail, **given))


def test_event_reaches_the_queue_of_a_rule_that_matches_as_aws_writes_it(bench: Any) -> None:
    url = _rule(bench, "matching", NOTICE)
    event_id = _notice(bench, resources=["arn:aws:ec2:us-east-1b:instance/i-1"], time=1_700_000_000.9)
    [body] = bench.waiting(url)
    assert json.loads(body) == {
        "version": "0",
        "id": event_id,
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2023-11-14T22:13:20Z",
        "region": "us-east-1",
        "resources": ["arn:aws:ec2:us-east-1b:instance/i-1"],
        "detail": {"instance-id": "i-1", "instance-action": "terminate"},
    }


def test_near_misses_and_disabled_rules_get_nothing(bench: Any) -> None:
    other = _rule(bench, "other", {**NOTICE, "detail": {"instance-action": ["hibernate"]}})
    disabled = _rule(bench, "disabled", NOTICE, state="DISABLED")
    _notice(bench)
    _notice(bench, "EC2 Instance Rebalance Recommendation")
    assert bench.waiting(other) == []
    assert bench.waiting(disabled) == []


def test_queue_whose_policy_does_not_let_the_rule_in_gets_nothing_and_the_timeline_says_why(
    bench: Any,
) -> None:
    url = _rule(bench, "shut", NOTICE, let_in=False)
    event_id = _notice(bench)
    assert bench.waiting(url) == []
    undelivered = [e for e in bench.aws.control.timeline() if e["kind"] == "event_undelivered"]
    reason = next(e["reason"] for e in undelivered if e["event_id"] == event_id and e["rule"] == "shut")
    assert "does not let events.amazonaws.com send" in reason


def test_put_events_takes_own_sources_and_refuses_those_of_aws(bench: Any) -> None:
    url = _rule(bench, "own", {"source": ["my.app"]})
    entry = {"DetailType": "x", "Detail": '{"a": 1}'}
    answer = bench.aws.client("events").put_events(
        Entries=[{"Source": "aws.ec2", **entry}, {"Source": "my.app", **entry}]
    )
    assert answer["FailedEntryCount"] == 1
    assert answer["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"
    [body] = bench.waiting(url)
    assert json.loads(body)["detail"] == {"a": 1}


def test_target_that_is_neither_queue_nor_function_is_refused(bench: Any) -> None:
    events = bench.aws.client("events")
    events.put_rule(Name="told", EventPattern=json.dumps(NOTICE))
    with pytest.raises(events.exceptions.ClientError, match="SQS queues and Lambda functions only"):
        events.put_targets(
            Rule="told", Targets=[{"Id": "t", "Arn": "arn:aws:sns:us-east-1:123456789012:lambda"}]
        )


def test_pattern_with_an_operator_nobody_knows_is_refused(bench: Any) -> None:
    events = bench.aws.client("events")
    with pytest.raises(events.exceptions.InvalidEventPatternException, match="sounds-like"):
        events.put_rule(Name="odd", EventPattern=json.dumps({"source": [{"sounds-like": "x"}]}))


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        {"source": "aws.ec2"},
        {"source": []},
        {"detail": {"instance-id": []}},
        {"source": [["aws.ec2"]]},
        {"source": [{"prefix": "a", "suffix": "b"}]},
        {"$or": [{"source": ["a"]}]},
    ],
)
def test_pattern_that_eventbridge_refuses_is_refused(pattern: Any) -> None:
    with pytest.raises(BadPatternError):
        check_pattern(pattern)


def test_whole_path_from_notice_to_function_takes_less_than_a_second(
    bench: Any, soon: Callable[..., Any]
) -> None:
    url = _rule(bench, "path", {"source": ["aws.path"]})
    allowed = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    bench.function("path", "def handler(event, context):\n  print(event['Records'][0]['body'])\n", allowed)
    arn = bench.aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    bench.aws.client("lambda").create_event_source_mapping(
        EventSourceArn=arn["Attributes"]["QueueArn"], FunctionName="path"
    )
    seconds = []
    for _ in range(3):
        at = bench.aws.control.timeline()[-1]["seq"]
        event_id = bench.aws.control.put_event(source="aws.path", detail_type="x", detail={})
        line = soon(
            lambda event_id=event_id: next(
                (e for e in bench.aws.control.function_log("path") if event_id in e["text"]), None
            )
        )
        emitted = next(e for e in bench.aws.control.timeline(at) if e["kind"] == "event_emitted")
        seconds.append(line["at"] - emitted["at"])
    assert min(seconds) < 1.0, seconds
