"""Queues in front of functions: batches, partial failures, visibility, dead letters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from local_aws.functions.event_sources import failed_messages

CONSUME = {
    "Effect": "Allow",
    "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
    "Resource": "*",
}

# Says what it got; fails the messages that say so, as often as they say so.
HANDLER = """
import json
def handler(event, context):
    bodies = [json.loads(record["body"]) for record in event["Records"]]
    print(json.dumps({"bodies": bodies}))
    failed = [
        {"itemIdentifier": record["messageId"]}
        for record, body in zip(event["Records"], bodies)
        if body.get("fail", 0) >= int(record["attributes"]["ApproximateReceiveCount"])
    ]
    if any(body.get("raise") for body in bodies):
        raise ValueError("on purpose")
    return {"batchItemFailures": failed}
"""


# Takes its time, and says when it began and ended.
SLOW_HANDLER = """
import json, time
def handler(event, context):
    began = time.time()
    time.sleep(0.3)
    print(json.dumps({"began": began, "ended": time.time()}))
"""


def _connect(
    bench: Any,
    name: str,
    *,
    source: str = HANDLER,
    statement: Any = CONSUME,
    concurrency: int = 0,
    **queue: str,
) -> tuple[str, str]:
    """Put a queue in front of a function; return the queue's URL and the mapping's id."""
    bench.function(name, source, *([statement] if statement else []))
    url, arn = bench.queue(name, **{"VisibilityTimeout": "1", **queue})
    mapping = bench.aws.client("lambda").create_event_source_mapping(
        EventSourceArn=arn,
        FunctionName=name,
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        **({"ScalingConfig": {"MaximumConcurrency": concurrency}} if concurrency else {}),
    )
    return url, mapping["UUID"]


def _batches(bench: Any, name: str) -> list[list[Any]]:
    return [e["json"]["bodies"] for e in bench.aws.control.function_log(name) if e["json"]]


def _send(bench: Any, url: str, *bodies: Any) -> None:
    bench.aws.client("sqs").send_message_batch(
        QueueUrl=url,
        Entries=[{"Id": str(i), "MessageBody": json.dumps(body)} for i, body in enumerate(bodies)],
    )


def test_messages_that_wait_arrive_in_batches_of_ten_at_most(bench: Any, soon: Callable[..., Any]) -> None:
    url, mapping = _connect(bench, "batches")
    client = bench.aws.client("lambda")
    client.update_event_source_mapping(UUID=mapping, Enabled=False)
    time.sleep(0.2)
    for tens in range(2):
        _send(bench, url, *({"n": 10 * tens + i} for i in range(10)))
    time.sleep(0.5)
    assert bench.aws.control.function_log("batches") == []  # a disabled mapping polls nothing
    client.update_event_source_mapping(UUID=mapping, Enabled=True)
    soon(lambda: sum(map(len, _batches(bench, "batches"))) == 20)
    assert sorted(map(len, _batches(bench, "batches"))) == [10, 10]
    assert bench.waiting(url) == []


def test_no_more_batches_are_handled_at_a_time_than_the_mapping_allows(
    bench: Any, soon: Callable[..., Any]
) -> None:
    url, _ = _connect(bench, "narrow", source=SLOW_HANDLER, concurrency=2, VisibilityTimeout="30")
    for _ in range(8):
        _send(bench, url, *({"n": n} for n in range(10)))

    def spans() -> list[tuple[float, float]]:
        told = [entry["json"] for entry in bench.aws.control.function_log("narrow") if entry["json"]]
        return [(one["began"], one["ended"]) for one in told]

    soon(lambda: len(spans()) >= 8)
    at_once = [sum(began <= moment < ended for began, ended in spans()) for moment, _ in spans()]
    assert max(at_once) == 2


def test_only_the_failed_message_of_a_batch_comes_back(bench: Any, soon: Callable[..., Any]) -> None:
    url, _ = _connect(bench, "partial")
    _send(bench, url, {"n": 1}, {"n": 2, "fail": 1}, {"n": 3})
    soon(lambda: len([b for batch in _batches(bench, "partial") for b in batch if b["n"] == 2]) == 2)
    time.sleep(1.5)  # longer than the visibility timeout: nothing else may come back
    seen = sorted(b["n"] for batch in _batches(bench, "partial") for b in batch)
    assert seen == [1, 2, 2, 3]


def test_function_error_brings_the_whole_batch_back_until_it_is_dead(
    bench: Any, soon: Callable[..., Any]
) -> None:
    dead_url, dead_arn = bench.queue("raising-dead")
    policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
    url, _ = _connect(bench, "raising", RedrivePolicy=policy)
    _send(bench, url, {"n": 1, "raise": True})
    assert soon(lambda: bench.waiting(dead_url)) == ['{"n": 1, "raise": true}']
    assert len(_batches(bench, "raising")) == 2


def test_message_reaches_its_warm_function_at_once(bench: Any, soon: Callable[..., Any]) -> None:
    url, _ = _connect(bench, "quick")
    _send(bench, url, {"n": 0})
    soon(lambda: _batches(bench, "quick"))
    delays = []
    for n in range(1, 6):
        sent = time.time()
        _send(bench, url, {"n": n})
        soon(lambda n=n: len(_batches(bench, "quick")) > n)
        delays.append(bench.aws.control.function_log("quick")[-1]["at"] - sent)
    assert min(delays) < 0.25, delays  # a batching window or a slow poll would show


def test_role_that_may_not_receive_leaves_the_queue_alone_and_says_so(
    bench: Any, soon: Callable[..., Any]
) -> None:
    url, _ = _connect(bench, "unentitled", statement=None)
    _send(bench, url, {"n": 1})
    problem = soon(lambda: [e for e in bench.aws.control.timeline() if e["kind"] == "poller_problem"])
    assert "unentitled-role is not authorized to perform sqs:" in problem[0]["reason"]
    assert bench.waiting(url) == ['{"n": 1}']


def test_polling_with_the_functions_role_is_on_record(bench: Any, soon: Callable[..., Any]) -> None:
    url, _ = _connect(bench, "recorded")
    _send(bench, url, {"n": 1})
    soon(lambda: _batches(bench, "recorded"))
    soon(lambda: "sqs:DeleteMessage" in {c["action"] for c in bench.aws.control.calls("recorded-role")})
    made = {(c["action"], c["by"]) for c in bench.aws.control.calls("recorded-role")}
    assert ("sqs:ReceiveMessage", "lambda.amazonaws.com") in made


def test_mapping_that_aws_would_window_or_filter_is_refused(bench: Any) -> None:
    bench.function("windowed", HANDLER, CONSUME)
    _, arn = bench.queue("windowed")
    with pytest.raises(Exception, match=r"cannot do lambda:CreateEventSourceMapping.*window"):
        bench.aws.client("lambda").create_event_source_mapping(
            EventSourceArn=arn, FunctionName="windowed", BatchSize=10, MaximumBatchingWindowInSeconds=5
        )


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        (b"", set()),
        (b"null", set()),
        (b"{}", set()),
        (b'{"batchItemFailures": []}', set()),
        (b'{"batchItemFailures": null}', set()),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}]}', {"b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": "unknown"}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', {"a", "b"}),
        (b'{"batchItemFailures": [{"id": "a"}]}', {"a", "b"}),
        (b'"text"', {"a", "b"}),
        (b"no json", {"a", "b"}),
    ],
)
def test_partial_batch_response_means_what_lambda_documents(payload: bytes, failed: set[str]) -> None:
    assert failed_messages(payload, ["a", "b"]) == failed
