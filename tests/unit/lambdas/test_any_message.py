"""Whatever a queue holds, each message comes to an end, and a notice beside it is handled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from spot_failover.departures import ActionResult, Departure
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step
from spot_failover.settings import Settings

from tests.unit.lambdas.fake_aws import NOTICED, TAG, sample_event

SETTINGS = Settings(
    fleet_tag_key=TAG,
    incidents_table="incidents",
    incident_ttl=timedelta(days=90),
    notice=timedelta(seconds=120),
    queue_url="queue",
    dead_letter_queue_url="dead",
    service="unit",
    metrics_namespace="SpotFailover",
)


class MemoryQueue:
    """The calls of a queue, in memory: fast enough for many examples."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self.delayed: list[str] = []

    def send_message_batch(self, **parameters: Any) -> dict[str, Any]:
        assert all(one["MessageAttributes"]["reason"]["StringValue"] for one in parameters["Entries"])
        self.dead += [one["MessageBody"] for one in parameters["Entries"]]
        return {}

    def change_message_visibility_batch(self, **parameters: Any) -> dict[str, Any]:
        self.delayed += [one["ReceiptHandle"] for one in parameters["Entries"]]
        return {}


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
SAMPLE = sample_event("ec2_spot_interruption_warning")
NEARLY_NOTICES = st.builds(
    lambda name, value: {**SAMPLE, name: value}, st.sampled_from(sorted(SAMPLE)), ANY_JSON
)


@settings(deadline=None)
@given(bodies=st.lists(ANY_JSON | NEARLY_NOTICES, min_size=1, max_size=5))
def test_any_json_ends_foreign_or_dead_lettered_beside_a_notice_that_is_handled(
    bodies: list[Any],
) -> None:
    queue = MemoryQueue()
    node = "i-0123456789abcdef1"
    found = {"InstanceId": node, "Tags": [{"Key": TAG, "Value": "chat"}]}
    pages = [{"Reservations": [{"Instances": [found]}]}]
    fakes: Any = (
        SimpleNamespace(get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: pages)),
        SimpleNamespace(batch_write_item=lambda **_: {}),
    )
    asked: list[str] = []

    def act(departures: Sequence[Departure], _now: datetime, _late: object) -> dict[str, ActionResult]:
        asked.extend(one.node.instance_id for one in departures)
        return {one.node.instance_id: ActionResult(Outcome.DEREGISTERED) for one in departures}

    function = NoticeFunction(
        Step.DEREGISTER,
        act,
        settings=SETTINGS,
        ec2=fakes[0],
        sqs=queue,  # type: ignore[arg-type]
        dynamodb=fakes[1],
        clock=lambda: NOTICED,
    )
    good = {**SAMPLE, "detail": {"instance-id": node, "instance-action": "terminate"}}
    texts = [json.dumps(body) for body in [good, *bodies]]
    records = [
        {"messageId": str(number), "receiptHandle": str(number), "body": text, "attributes": {}}
        for number, text in enumerate(texts)
    ]
    response = function.handle({"Records": records}, SimpleNamespace())
    assert response == {"batchItemFailures": []}
    assert queue.delayed == []
    assert asked == [node]
    foreign = [text for text in texts[1:] if text not in queue.dead]
    assert all(json.loads(text)["detail"] == SAMPLE["detail"] for text in foreign)
