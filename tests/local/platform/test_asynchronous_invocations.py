"""Functions that a rule invokes itself: who may, and what becomes of an event that they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest

Soon = Callable[..., Any]
# Fails where the event says so.
UNRELIABLE = """
import json
def handler(event, context):
    print(json.dumps({"told": event["detail"], "request": context.aws_request_id}))
    if event["detail"]["fails"]:
        raise RuntimeError("on purpose")
"""


def _rule(bench: Any, name: str, function: str, *, let_in: bool = True) -> str:
    """Make a rule that invokes a function; return its source."""
    events = bench.aws.client("events")
    pattern = {"source": [f"test.{name}"]}
    rule = events.put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
    if let_in:
        bench.aws.client("lambda").add_permission(
            FunctionName=function,
            StatementId=name,
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rule,
        )
    events.put_targets(Rule=name, Targets=[{"Id": "function", "Arn": function}])
    return f"test.{name}"


def _told(bench: Any, function: str) -> list[dict[str, Any]]:
    return [line["json"] for line in bench.aws.control.function_log(function) if line["json"]]


def test_rule_invokes_a_function_that_lets_it_in(bench: Any, soon: Soon) -> None:
    arn = bench.function("direct", UNRELIABLE)
    source = _rule(bench, "direct", arn)
    bench.aws.control.put_event(source=source, detail_type="x", detail={"fails": False})
    (told,) = soon(lambda: _told(bench, "direct"))
    assert told["told"] == {"fails": False}


def test_function_whose_policy_does_not_name_the_rule_is_not_invoked(bench: Any) -> None:
    arn = bench.function("shut-function", UNRELIABLE)
    source = _rule(bench, "shut-function", arn, let_in=False)
    event_id = bench.aws.control.put_event(source=source, detail_type="x", detail={"fails": False})
    undelivered = [e for e in bench.aws.control.timeline() if e["kind"] == "event_undelivered"]
    (reason,) = [e["reason"] for e in undelivered if e["event_id"] == event_id]
    assert "does not let events.amazonaws.com invoke it" in reason
    assert _told(bench, "shut-function") == []


def test_function_that_fails_gets_the_event_three_times_and_then_it_is_discarded(
    bench: Any, soon: Soon
) -> None:
    bench.aws.control.asynchronous_invocations(time_factor=0.001)
    arn = bench.function("failing", UNRELIABLE)
    source = _rule(bench, "failing", arn)
    bench.aws.control.put_event(source=source, detail_type="x", detail={"fails": True})

    def discarded() -> Any:
        found = [e for e in bench.aws.control.timeline() if e["kind"] == "event_discarded"]
        return [e for e in found if e["function"] == arn]

    (entry,) = soon(discarded)
    assert (entry["failed"], entry["throttled"]) == (3, 0)
    assert len(_told(bench, "failing")) == 3


def test_event_that_finds_no_concurrency_waits_for_it(bench: Any, soon: Soon) -> None:
    bench.aws.control.asynchronous_invocations(time_factor=0.05)
    functions = bench.aws.client("lambda")
    arn = bench.function("held", UNRELIABLE)
    functions.put_function_concurrency(FunctionName="held", ReservedConcurrentExecutions=0)
    source = _rule(bench, "held", arn)
    bench.aws.control.put_event(source=source, detail_type="x", detail={"fails": False})
    assert _told(bench, "held") == []
    functions.delete_function_concurrency(FunctionName="held")
    assert soon(lambda: _told(bench, "held"))


def test_invoke_of_type_event_is_accepted_at_once_and_run_later(bench: Any, soon: Soon) -> None:
    bench.function("later", "def handler(event, context):\n  print('ran', event['n'])\n")
    answer = bench.aws.client("lambda").invoke(
        FunctionName="later", InvocationType="Event", Payload=json.dumps({"n": 5})
    )
    assert answer["StatusCode"] == 202
    line = soon(lambda: bench.aws.control.function_log("later"))[0]
    assert line["text"] == "ran 5"


def test_warmed_functions_first_invocation_is_no_cold_start(bench: Any) -> None:
    bench.function("warmed", "def handler(event, context): return 1\n")
    bench.aws.control.warm_function("warmed", 2)
    assert bench.invoke("warmed") == (1, None)
    (invoked,) = [e for e in bench.aws.control.timeline() if e.get("name") == "warmed"]
    assert invoked["init_seconds"] is None


def test_function_that_does_not_start_cannot_be_warmed(bench: Any) -> None:
    bench.function("broken", "import nothing_of_the_kind\n")
    with pytest.raises(Exception, match="broken does not start"):
        bench.aws.control.warm_function("broken", 1)


def test_unknown_function_is_refused_at_the_call(bench: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="ResourceNotFoundException"):
        bench.aws.client("lambda").invoke(FunctionName="nobody", InvocationType="Event", Payload=b"{}")
