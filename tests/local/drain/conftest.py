"""Five departures of real vLLM nodes, each under another condition, and all that was observed.

The scenarios share one fleet and overlap, because vLLM takes half a minute to start and a drain its own time.
The node that cannot finish comes last: its requests would take the processors from those that drain.
Replacements are switched off (the group's Launch process is suspended) for the same reason.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local_aws.control_client import Control, NodeView
from local_aws.session import LocalAws

FLEET = "drained"
NOTICE_SECONDS = 60
STREAM_TOKENS = 1_000
CLIENTS = 8
ENDLESS_TOKENS = 30_000
ENDLESS_REQUESTS = 8


@dataclass(frozen=True)
class Stream:
    """One streamed completion as its client saw it."""

    tokens: int | None
    finish_reason: str | None
    complete: bool


@dataclass
class Departure:
    """One node's interruption. Times are epoch seconds."""

    instance_id: str
    address: str
    noticed_at: float
    deadline: float
    views: list[tuple[float, NodeView]] = field(default_factory=list)
    engine_processes: list[tuple[float, list[str]]] = field(default_factory=list)

    def outcome(self) -> dict[str, Any]:
        """Return the drain's outcome as the agent itself reports it."""
        outcomes = [
            view.status["drain"]["outcome"] for _, view in self.views if view.status and view.status["drain"]
        ]
        found = [outcome for outcome in outcomes if outcome is not None]
        assert found, f"no outcome in {len(self.views)} looks at {self.instance_id}"
        return dict(found[-1])

    def engine_gone_at(self) -> float:
        """Return when the node was first seen without any process of vLLM, by its processes' own names."""
        looks = self.engine_processes
        assert looks[0][1], f"{self.instance_id} was never seen with an engine, so its absence proves nothing"
        last_seen = max(at for at, names in looks if names)
        return next(at for at, _ in looks if at > last_seen)


@dataclass
class Scene:
    """What happened."""

    command_alone: Departure
    imds_alone: Departure
    both: Departure
    cannot_finish: Departure
    control_plane_off: Departure
    streams: list[Stream]
    endless: list[Stream]
    probes: list[tuple[float, int]]
    timeline: list[dict[str, Any]]
    counts: list[tuple[float, list[dict[str, Any]]]]
    last_views: list[NodeView]


def stream(url: str, tokens: int) -> Stream:
    """Stream a completion of exactly so many tokens and say how it ended."""
    body = {
        "model": "tiny",
        "prompt": "Once upon a time",
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    usage, reason, complete = None, None, False
    try:
        with urllib.request.urlopen(_post(url, body), timeout=90) as answer:
            for line in answer:
                text = line.decode().removeprefix("data: ").strip()
                if text == "[DONE]":
                    complete = True
                elif text:
                    chunk = json.loads(text)
                    usage = chunk["usage"]["completion_tokens"] if chunk.get("usage") else usage
                    reason = chunk["choices"][0]["finish_reason"] if chunk["choices"] else reason
    except (OSError, ValueError):  # broken off: the client sees no end of the stream
        complete = False
    return Stream(usage, reason, complete)


def _post(url: str, body: dict[str, Any]) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"}
    return urllib.request.Request(f"{url}/v1/completions", data=json.dumps(body).encode(), headers=headers)


def probe(url: str) -> int:
    """Ask for one token and return the HTTP status; 0 when there was no answer."""
    try:
        body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
        with urllib.request.urlopen(_post(url, body), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as err:
        return err.code
    except OSError:
        return 0


def vllm_processes(pids: Sequence[int]) -> list[str]:
    """Return the command lines of vLLM's processes; its core retitles itself, and both titles name it."""
    names = []
    for pid in pids:
        with contextlib.suppress(OSError):
            names.append(
                Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
    return [name for name in names if "vllm.entrypoints" in name or name.startswith("VLLM::")]


def wait_for(what: Callable[[], Any], seconds: float, waited_for: str) -> Any:
    give_up = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < give_up, f"no {waited_for} in {seconds} s"
        time.sleep(0.25)
    return value


class Stage:
    """The fleet, the traffic and the watchers."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        self.control: Control = aws.control
        self.url = self.control.load_balancer_url(FLEET)
        self.departures: list[Departure] = []
        self.probes: list[tuple[float, int]] = []
        self.counts: list[tuple[float, list[dict[str, Any]]]] = []
        self._over = threading.Event()
        self._watchers = [threading.Thread(target=each) for each in (self._probe, self._look)]

    def __enter__(self) -> Stage:
        for watcher in self._watchers:
            watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for watcher in self._watchers:
            watcher.join()

    def interrupt(self, node: NodeView, *, imds: bool = True) -> Departure:
        noticed_at = self.control.interrupt(node.instance_id, notice_seconds=NOTICE_SECONDS, imds=imds)
        departure = Departure(node.instance_id, node.address, noticed_at, noticed_at + NOTICE_SECONDS)
        self.departures.append(departure)
        return departure

    def commands_begun(self) -> set[str]:
        return {
            entry["instance_id"]
            for entry in self.control.timeline()
            if entry["kind"] == "command" and entry["status"] == "InProgress"
        }

    def _probe(self) -> None:
        while not self._over.wait(0.5):
            self.probes.append((time.time(), probe(self.url)))

    def _look(self) -> None:
        while not self._over.wait(0.7):
            self.counts.append((time.time(), self.control.targets()))
            views = {view.instance_id: view for view in self.control.nodes()}
            for departure in list(self.departures):
                view = views[departure.instance_id]
                departure.views.append((time.time(), view))
                departure.engine_processes.append((time.time(), vllm_processes(view.pids)))


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Deploy six nodes, give five of them notice, and watch until the last is gone."""
    with LocalAws(tmp_path_factory.mktemp("drain"), engine="real") as aws:
        fleet = {"name": FLEET, "model": "tiny", "served_model_name": "tiny", "nodes": 6, "max_nodes": 6}
        aws.deploy({"fleets": [fleet], "notice_seconds": str(NOTICE_SECONDS)})
        wait_for(lambda: _healthy(aws.control) == 6, 300, "six healthy nodes")
        aws.client("autoscaling").suspend_processes(
            AutoScalingGroupName=f"spot-failover-{FLEET}", ScalingProcesses=["Launch"]
        )
        with ThreadPoolExecutor(max_workers=32) as clients, Stage(aws) as stage:
            yield play(stage, clients)


def _healthy(control: Control) -> int:
    return sum("healthy" in view.target_states.values() for view in control.nodes())


def play(stage: Stage, clients: ThreadPoolExecutor) -> Scene:
    """Give the five notices, each under its own condition, while every node has requests to finish."""
    nodes = stage.control.nodes()
    notices_given = threading.Event()
    streams = [clients.submit(_keep_streaming, stage.url, notices_given) for _ in range(CLIENTS)]

    command_alone = _interrupt_at_work(stage, nodes[0], imds=False)
    both = _interrupt_at_work(stage, nodes[1])
    wait_for(lambda: len(stage.commands_begun()) == 2, 40, "two drain commands")

    stage.control.inject_fault(action="ssm:SendCommand", error="AccessDeniedException")
    imds_alone = _interrupt_at_work(stage, nodes[2])
    events = stage.aws.client("events")
    for rule in events.list_rules()["Rules"]:
        events.disable_rule(Name=rule["Name"])
    control_plane_off = _interrupt_at_work(stage, nodes[3])
    notices_given.set()
    in_time = (command_alone, both, imds_alone, control_plane_off)
    wait_for(lambda: all(_drained(each) for each in in_time), NOTICE_SECONDS, "four drains that end")
    refused = {"action": "ssm:SendCommand", "result": "AccessDeniedException"}
    wait_for(lambda: _called(stage.control, refused), 20, "refused drain command")

    hopeless = f"http://{nodes[4].address}:8000"
    endless = [clients.submit(stream, hopeless, ENDLESS_TOKENS) for _ in range(ENDLESS_REQUESTS)]
    wait_for(lambda: _running(hopeless) == ENDLESS_REQUESTS, 20, "endless requests")
    cannot_finish = stage.interrupt(nodes[4])
    wait_for(lambda: time.time() > cannot_finish.deadline + 2, NOTICE_SECONDS + 10, "end")
    return Scene(
        command_alone=command_alone,
        imds_alone=imds_alone,
        both=both,
        cannot_finish=cannot_finish,
        control_plane_off=control_plane_off,
        streams=[each for client in streams for each in client.result(timeout=60)],
        endless=[each.result(timeout=60) for each in endless],
        probes=list(stage.probes),
        timeline=stage.control.timeline(),
        counts=list(stage.counts),
        last_views=stage.control.nodes(),
    )


def _keep_streaming(url: str, enough: threading.Event) -> list[Stream]:
    streams = []
    while not enough.is_set():
        streams.append(stream(url, STREAM_TOKENS))
    return streams


def _interrupt_at_work(stage: Stage, node: NodeView, *, imds: bool = True) -> Departure:
    """Give a node notice in a moment in which it has a request to finish that has just begun."""
    engine = f"http://{node.address}:8000"
    wait_for(lambda: _running(engine) > 0, 30, f"request on {node.instance_id}")
    return stage.interrupt(node, imds=imds)


def _running(engine: str) -> int:
    """Return vLLM's own count of the requests that it works on."""
    with urllib.request.urlopen(f"{engine}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running{"))
    )


def _drained(departure: Departure) -> bool:
    views = [view for _, view in departure.views if view.status and view.status["drain"]]
    return any(view.status["drain"]["outcome"] for view in views if view.status)


def _called(control: Control, wanted: dict[str, str]) -> bool:
    return any(wanted.items() <= call.items() for call in control.calls())


@pytest.fixture(scope="session")
def drain_logs(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[dict[str, Any]]]:
    """Return a node's agent log as parsed lines."""
    base = next(p for p in tmp_path_factory.getbasetemp().iterdir() if p.name.startswith("drain"))

    def read(instance_id: str) -> list[dict[str, Any]]:
        journal = base / "nodes" / instance_id / "root/var/log/journal/spot-failover-agent.service.log"
        return [json.loads(line) for line in journal.read_text().splitlines() if line.startswith("{")]

    return read
