"""The watch on the metadata service."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node_bootstrap.node_agent.errors import ImdsError
from gpu_node_bootstrap.node_agent.imds import (
    NOTICE_SECONDS,
    Imds,
    ImdsWatcher,
    SpotNotice,
    parse_instance_action,
)
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.times import parse_utc


def test_there_is_no_notice_until_ec2_gives_one(kit: Any, imds: Any) -> None:
    client = Imds(imds.endpoint)
    assert client.spot_notice() is None
    deadline = imds.give_notice(seconds=120)
    notice = client.spot_notice()
    assert notice is not None
    assert notice.action == "terminate"
    assert notice.deadline == pytest.approx(deadline, abs=0.001)
    assert client.instance_id() == kit.INSTANCE_ID


def test_one_token_serves_many_requests_and_a_refused_one_is_replaced(imds: Any) -> None:
    client = Imds(imds.endpoint)
    client.spot_notice()
    client.spot_notice()
    assert imds.paths.count("/latest/api/token") == 1
    imds.tokens.clear()
    with pytest.raises(ImdsError, match="401"):
        client.spot_notice()
    assert client.spot_notice() is None
    assert imds.paths.count("/latest/api/token") == 2


def test_the_watch_survives_whatever_the_service_does_and_says_so_once(kit: Any, imds: Any) -> None:
    imds.failing_with = 500
    stream = io.StringIO()
    ids: list[str] = []
    notices: list[SpotNotice] = []
    watcher = ImdsWatcher(
        Imds(imds.endpoint),
        on_instance_id=ids.append,
        on_notice=notices.append,
        log=Log(stream=stream),
        poll_seconds=0.02,
    )
    watcher.start()
    time.sleep(0.2)
    assert stream.getvalue().count("imds_unanswered") == 1
    imds.failing_with = None
    kit.eventually(lambda: ids)
    imds.instance_action = "not json"
    time.sleep(0.1)
    imds.give_notice(seconds=120)
    kit.eventually(lambda: notices)
    watcher.stop()
    watcher.join(timeout=2)
    assert ids == [kit.INSTANCE_ID]


def test_a_mistake_in_what_a_notice_sets_off_does_not_end_the_watch(kit: Any, imds: Any) -> None:
    imds.give_notice(seconds=120)
    calls: list[SpotNotice] = []

    def fails(notice: SpotNotice) -> None:
        calls.append(notice)
        raise RuntimeError("a mistake")

    watcher = ImdsWatcher(
        Imds(imds.endpoint),
        on_instance_id=lambda _id: None,
        on_notice=fails,
        log=Log(stream=io.StringIO()),
        poll_seconds=0.02,
    )
    watcher.start()
    kit.eventually(lambda: len(calls) > 1)
    watcher.stop()


def test_stop_and_hibernate_are_notices_too_and_a_missing_time_means_the_notices_length() -> None:
    stop = parse_instance_action('{"action": "stop", "time": "2017-09-18T08:22:00Z"}', now=0)
    assert stop == SpotNotice("stop", parse_utc("2017-09-18T08:22:00Z"))
    assert parse_instance_action('{"action": "hibernate"}', now=10) == SpotNotice(
        "hibernate", 10 + NOTICE_SECONDS
    )


@given(st.text())
def test_any_instance_action_is_read_or_refused(text: str) -> None:
    try:
        assert parse_instance_action(text, now=0).action
    except ImdsError:
        return
