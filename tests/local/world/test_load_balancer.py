"""How the load balancer treats requests: by the targets' states, streaming, and never twice."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.exceptions
import pytest

DELAY_SECONDS = 6


@pytest.fixture(scope="module")
def fleet(make_fleet: Callable[..., Any], eventually: Callable[..., Any]) -> Any:
    made = make_fleet(2)
    eventually(lambda: len(made.healthy()) == 2)
    return made


def connection(fleet: Any) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urllib.parse.urlsplit(fleet.url).netloc, timeout=20)


def arrivals(fleet: Any, path: str) -> Iterator[tuple[float, bytes]]:
    """Yield each chunk of a streamed answer with the time of its arrival."""
    asked = connection(fleet)
    asked.request("GET", path)
    answer = asked.getresponse()
    while chunk := answer.read1():
        yield time.monotonic(), chunk


def deregister(fleet: Any, instance_id: str, **target: Any) -> None:
    fleet.client("elbv2").deregister_targets(
        TargetGroupArn=fleet.target_group, Targets=[{"Id": instance_id, **target}]
    )


def register(fleet: Any, instance_id: str) -> None:
    fleet.client("elbv2").register_targets(TargetGroupArn=fleet.target_group, Targets=[{"Id": instance_id}])


def test_answers_are_streamed_as_they_come(fleet: Any) -> None:
    seen = list(arrivals(fleet, "/stream/5/0.3"))
    assert b"".join(chunk for _, chunk in seen) == b"".join(b"%03d\n" % n for n in range(5))
    assert seen[-1][0] - seen[0][0] > 0.9, "a buffered answer arrives all at once"


def test_bodies_reach_the_target_whole(fleet: Any) -> None:
    body = b"x" * 300_000
    with urllib.request.urlopen(urllib.request.Request(fleet.url + "/echo", data=body)) as answer:
        assert answer.read() == body


def test_request_goes_to_the_target_with_the_fewest_in_flight(fleet: Any) -> None:
    with ThreadPoolExecutor(2) as clients:
        busy = clients.submit(lambda: list(arrivals(fleet, "/stream/8/0.3")))
        time.sleep(0.5)
        assert len({fleet.get("/who") for _ in range(4)}) == 1, "all to the idle one"
        busy.result()


def test_refusal_of_the_target_is_a_bad_gateway_and_not_retried(fleet: Any) -> None:
    before = sum(target["requests"] for target in requests(fleet))
    assert fleet.get("/reset")[0] == 502
    assert sum(target["requests"] for target in requests(fleet)) == before + 1


def requests(fleet: Any) -> list[dict[str, Any]]:
    targets = fleet.aws.control.targets()
    return [target for target in targets if target["target_group"] == fleet.target_group]


def test_silent_target_is_given_up_after_the_idle_timeout(fleet: Any) -> None:
    began = time.monotonic()
    assert fleet.get("/silent/10")[0] == 504
    assert 2.5 < time.monotonic() - began < 6, "the load balancer's idle timeout is 3 s"


def test_stream_that_falls_silent_is_broken_off_and_not_ended_cleanly(fleet: Any) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        list(arrivals(fleet, "/stream/2/6"))


def test_draining_target_finishes_its_requests_and_gets_no_new_ones(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    with ThreadPoolExecutor(1) as clients:
        running = clients.submit(lambda: list(arrivals(fleet, "/stream/12/0.3")))
        busy = eventually(lambda: [t for t in requests(fleet) if t["in_flight"]])[0]["target"]
        deregister(fleet, busy)
        deregister(fleet, busy)  # a second time is nothing
        other = next(n for n in fleet.nodes() if n.instance_id != busy)
        assert {fleet.get("/who")[1] for _ in range(6)} == {other.address}
        assert fleet.target_state(busy)[0] == "draining"
        assert len(b"".join(chunk for _, chunk in running.result())) == 12 * 4
    eventually(lambda: fleet.target_state(busy)[0] == "unused")
    register(fleet, busy)
    eventually(lambda: len(fleet.healthy()) == 2)


def test_requests_that_outlast_the_deregistration_delay_are_cut(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    ended: list[object] = []

    def ask() -> None:
        try:
            ended.append(list(arrivals(fleet, "/stream/60/0.3")))
        except (http.client.IncompleteRead, ConnectionError) as err:
            ended.append(err)

    client = threading.Thread(target=ask)
    client.start()
    busy = eventually(lambda: [t for t in requests(fleet) if t["in_flight"]])[0]["target"]
    began = time.monotonic()
    deregister(fleet, busy)
    client.join(timeout=DELAY_SECONDS + 5)
    assert isinstance(ended[0], http.client.IncompleteRead | ConnectionError)
    assert abs(time.monotonic() - began - DELAY_SECONDS) < 1.5
    register(fleet, busy)
    eventually(lambda: len(fleet.healthy()) == 2)


def test_all_targets_unhealthy_means_all_get_requests(fleet: Any, eventually: Callable[..., Any]) -> None:
    marks = [fleet.root(node.instance_id) / "unready" for node in fleet.nodes()]
    for mark in marks:
        mark.touch()
    eventually(lambda: fleet.healthy() == [])
    assert {fleet.get("/who")[0] for _ in range(4)} == {200}
    for mark in marks:
        mark.unlink()
    eventually(lambda: len(fleet.healthy()) == 2)


def test_no_target_is_service_unavailable(fleet: Any, eventually: Callable[..., Any]) -> None:
    for node in fleet.nodes():
        deregister(fleet, node.instance_id)
    assert fleet.get("/who")[0] == 503
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidTarget"):
        register(fleet, "i-0123456789abcdef0")
