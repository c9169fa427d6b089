"""When a whole fleet is interrupted at once, its last nodes serve until their replacements do."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import openai
from spot_failover.outcomes import Outcome, Step

from tests.local.failover.deployed_fleet import FLEET, NOTICE_SECONDS, DeployedFleet, wait_for

CLIENTS = 4


@dataclass
class Clients:
    """A few users of the stock OpenAI SDK, with its own retries, each asking again and again."""

    base_url: str
    answered: int = 0
    retried: int = 0
    lost: list[Exception] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Clients:
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _ask(self) -> None:
        with openai.OpenAI(base_url=self.base_url, api_key="none") as sdk:
            while not self._stop.is_set():
                try:
                    raw = sdk.completions.with_raw_response.create(
                        model="tiny", prompt="Hello", max_tokens=60
                    )
                    assert raw.parse().choices[0].finish_reason == "length"
                except (openai.OpenAIError, AssertionError) as error:
                    self.lost.append(error)
                else:
                    self.answered += 1
                    self.retried += raw.retries_taken > 0


def _states(fleet: DeployedFleet, instance_id: str, since: int) -> list[str]:
    """Return what the load balancer took a node for, one state after another."""
    return [
        entry["state"]
        for entry in fleet.control.timeline(since)
        if entry["kind"] == "target_state" and entry["instance_id"] == instance_id
    ]


def test_a_whole_fleet_that_goes_at_once_loses_no_request(fleet: DeployedFleet) -> None:
    nodes = [node.instance_id for node in fleet.whole()]
    since = len(fleet.control.timeline())
    with Clients(f"{fleet.control.load_balancer_url(FLEET)}/v1") as clients:
        wait_for("the first answers", lambda: clients.answered > 2 * CLIENTS)
        fleet.control.interrupt_all(nodes, notice_seconds=NOTICE_SECONDS)

        def replaced() -> bool:
            return len({node.instance_id for node in fleet.in_service()} - set(nodes)) >= 2

        wait_for("two replacements in service", replaced, seconds=45)
        incidents = [fleet.incident_with(node, "deregistered_at") for node in nodes]
        before = clients.answered
        wait_for("answers by the replacements", lambda: clients.answered > before + 2 * CLIENTS)
    assert clients.lost == [], (
        f"{clients.answered} were answered, {clients.retried} of them at a later attempt"
    )
    print(f"{clients.answered} were answered, {clients.retried} of them at a later attempt")
    held = [_outcomes(incident) for incident in incidents]
    assert any(Outcome.HELD in one for one in held), "the last of them stayed"
    assert {one[-1] for one in held} == {Outcome.DEREGISTERED}
    kept = [_states(fleet, node, since) for node, one in zip(nodes, held, strict=True) if Outcome.HELD in one]
    # Detaching deregistered it, and it was taken back; it leaves when a replacement is healthy.
    assert all(states[0] == "draining" and states.count("initial") >= 1 for states in kept), kept
    assert all(states.count("draining") >= 2 for states in kept), kept


def _outcomes(incident: Any) -> list[Outcome]:
    return [entry.outcome for entry in incident.entries if entry.step is Step.DEREGISTER]
