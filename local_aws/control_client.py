"""The control API as Python methods; needs nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

InterruptionAction = Literal["terminate", "stop", "hibernate"]


class ControlError(RuntimeError):
    """The local AWS refused a control request, or did not answer; the message says which and why."""


@dataclass(frozen=True)
class NodeView:
    """A node as the local AWS sees it. Times are epoch seconds; None is not (yet) so."""

    instance_id: str
    fleet: str | None
    address: str
    state: str
    """running | terminated"""
    lifecycle_state: str | None
    """Auto Scaling's, e.g. InService; None when it is in no group (any more)."""
    target_states: Mapping[str, str]
    """target group ARN -> initial | healthy | unhealthy | draining | unused"""
    noticed_at: float | None
    deadline: float | None
    status: Mapping[str, Any] | None
    """The node agent's status, if it answers."""
    pids: Sequence[int]


class Control:
    """Talks to one local AWS. Every method raises `ControlError` when it cannot be done."""

    def __init__(self, endpoint_url: str, *, timeout_seconds: float = 60.0) -> None:
        self.endpoint_url = endpoint_url
        self._timeout = timeout_seconds

    def about(self) -> dict[str, Any]:
        """Return endpoint_url, region, account_id, engine, address_prefix and state_dir."""
        return self._mapping("GET", "about")

    def interrupt(
        self,
        instance_id: str,
        *,
        notice_seconds: float = 120,
        imds: bool = True,
        event: bool = True,
        action: InterruptionAction = "terminate",
    ) -> float:
        """Do what EC2 does when it takes a spot instance back; returns the notice's epoch seconds.

        `imds=False` withholds the notice from the node, `event=False` from EventBridge.
        """
        given = {"instance_id": instance_id, "notice_seconds": notice_seconds, "imds": imds}
        answer = self._mapping("POST", "interrupt", {**given, "event": event, "action": action})
        return float(answer["noticed_at"])

    def interrupt_all(
        self,
        instance_ids: Sequence[str],
        *,
        notice_seconds: float = 120,
        imds: bool = True,
        event: bool = True,
        action: InterruptionAction = "terminate",
    ) -> list[float]:
        """Interrupt many instances, one right after another; returns the notices' epoch seconds."""
        given = {"instance_ids": list(instance_ids), "notice_seconds": notice_seconds, "imds": imds}
        answer = self._mapping("POST", "interrupt-all", {**given, "event": event, "action": action})
        return [float(at) for at in answer["noticed_at"]]

    def bare_nodes(self, *, boot_seconds: float | None = 0.0, drain_seconds: float = 0.0) -> None:
        """Set how long bare nodes take to boot (None: for ever; it needs a launch hook), and to drain."""
        self._request("POST", "bare-nodes", {"boot_seconds": boot_seconds, "drain_seconds": drain_seconds})

    def nodes(self) -> list[NodeView]:
        """Return every node there is or was."""
        names = [each.name for each in fields(NodeView)]
        return [NodeView(**{name: node[name] for name in names}) for node in self._list("GET", "nodes")]

    def timeline(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the observed changes from entry number `since` on (`seq` numbers them from 0)."""
        return self._list("GET", "timeline", {"since": since})

    def inject_fault(
        self,
        action: str,
        error: str = "",
        *,
        count: int | None = None,
        delay_seconds: float = 0.0,
        role: str | None = None,
        spared: int = 0,
        takes_effect: bool = False,
        lost: bool = False,
    ) -> None:
        """Fail the next `count` calls (all, if None) of `action` ("ssm:SendCommand", "dynamodb:*").

        Only calls of functions and nodes are hit, and with `role` only those of roles whose name contains it;
        the first `spared` of them pass. `takes_effect`: the call is carried out before it fails. `lost`: its
        answer never comes (`faults.LOST_HEADER`).

        `error` is an AWS error code ("ThrottlingException", "AccessDeniedException", "InternalFailure");
        empty with a delay means slow but successful.
        """
        fault = {"action": action, "error": error, "count": count, "delay_seconds": delay_seconds}
        more = {"role": role, "spared": spared, "takes_effect": takes_effect, "lost": lost}
        self._request("POST", "faults", fault | more)

    def clear_faults(self) -> None:
        """Forget all injected faults."""
        self._request("DELETE", "faults")

    def throttle(
        self,
        enabled: bool,
        *,
        factor: float = 1.0,
        overrides: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Hold functions and nodes to AWS's own limits on requests, from full buckets on, or no more.

        `factor` scales all limits. `overrides` gives an action ("ssm:SendCommand") one bucket of its own,
        unscaled: capacity and refill per second.
        """
        self._request(
            "POST", "throttle", {"enabled": enabled, "factor": factor, "overrides": dict(overrides or {})}
        )

    def throttling(self) -> dict[str, Any]:
        """Return enabled, factor, and buckets by name: tokens, taken, refused, capacity, source and more."""
        return self._mapping("GET", "throttle")

    def load_balancer_url(self, fleet: str) -> str:
        """Return the fleet's load balancer, e.g. "http://127.20.3.1:41234"."""
        return str(self._mapping("GET", "load-balancer-url", {"fleet": fleet})["url"])

    def calls(self, role: str | None = None) -> list[dict[str, Any]]:
        """Return API calls in order: at, role (None: an operator), action, resources, result, seconds."""
        return self._list("GET", "calls", {} if role is None else {"role": role})

    def targets(self) -> list[dict[str, Any]]:
        """Return every target that is or was registered: target, target_group, requests, in_flight, state."""
        return self._list("GET", "targets")

    def set_spot_capacity(self, *, available: bool) -> None:
        """Let launches of spot instances succeed, or fail for want of capacity."""
        self._request("POST", "spot-capacity", {"available": available})

    def kernel_log(self, instance_id: str, line: str) -> None:
        """Let the node's kernel say something, e.g. "NVRM: Xid (PCI:0000:00:1e): 79, ..."."""
        self._request("POST", "kernel-log", {"instance_id": instance_id, "line": line})

    def put_event(
        self,
        *,
        source: str,
        detail_type: str,
        detail: Mapping[str, Any],
        resources: Sequence[str] = (),
        time: float | str | None = None,
    ) -> str:
        """Put any event on the default bus, `aws.` sources included; returns its id.

        `time` is epoch seconds or ISO 8601 (now, if None).
        """
        event = {"source": source, "detail_type": detail_type, "detail": dict(detail)}
        return str(
            self._mapping("POST", "events", {**event, "resources": list(resources), "time": time})["id"]
        )

    def schedules(self, *, paused: bool = False, time_factor: float = 1.0) -> None:
        """Let schedules run by the clock, with their periods multiplied, or only when they are asked to."""
        self._request("POST", "schedules", {"paused": paused, "time_factor": time_factor})

    def run_schedule(self, name: str) -> dict[str, Any]:
        """Run a schedule of EventBridge Scheduler out of turn and wait: error (None: none), and payload."""
        return self._mapping("POST", "run-schedule", {"name": name})

    def function_log(self, name: str) -> list[dict[str, Any]]:
        """Return what a function wrote: at, request_id, text, and json (the parsed line, or None)."""
        return self._list("GET", "function-log", {"name": name})

    def function_environment(self, name: str) -> dict[str, Any]:
        """Return what a function runs with: name, handler, bundle, runtime, timeout_seconds, variables."""
        return self._mapping("GET", "function-environment", {"name": name})

    def asynchronous_invocations(self, *, time_factor: float = 1.0, concurrency: int | None = None) -> None:
        """Set how functions are run for events: `time_factor` shortens the waits before they are retried.

        `concurrency` is for how many events at once, over all functions (None: the default of ten).
        """
        given = {"time_factor": time_factor, "concurrency": concurrency}
        self._request("POST", "asynchronous-invocations", given)

    def warm_function(self, name: str, environments: int) -> None:
        """Have as many environments of a function wait for events, as provisioned concurrency does."""
        self._request("POST", "warm-function", {"name": name, "environments": environments})

    def skip_queue_time(self, seconds: float) -> None:
        """Let time pass at once for all queues: visibility timeouts and delays, nothing else."""
        self._request("POST", "queue-clock", {"seconds": seconds})

    def queue_messages(self, *names: str) -> list[dict[str, Any]]:
        """Return all messages in these queues: queue, id, body, receive_count, visible_in, attributes."""
        return self._list("GET", "queue-messages", {"names": ",".join(names)})

    def empty_queue(self, name: str) -> None:
        """Forget all messages of a queue, in flight or not."""
        self._request("DELETE", "queue-messages", {"name": name})

    def shutdown(self) -> None:
        """Ask the local AWS to stop: nodes, functions, servers."""
        self._request("POST", "shutdown")

    def _mapping(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = self._request(method, path, given)
        if not isinstance(answer, dict):
            raise ControlError(f"{method} {path} answered {answer!r}, not an object")
        return answer

    def _list(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        answer = self._request(method, path, given)
        if not isinstance(answer, list):
            raise ControlError(f"{method} {path} answered {answer!r}, not a list")
        return answer

    def _request(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> Any:
        url = f"{self.endpoint_url}/_local/{path}"
        body = None
        if given and method == "GET":
            url = f"{url}?{urllib.parse.urlencode(given)}"
        elif given is not None:
            body = json.dumps(given).encode()
        request = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - our own http URL
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310 - as above
                return json.load(response)
        except urllib.error.HTTPError as err:
            raise ControlError(f"{method} {path}: {_reason(err)}") from err
        except (OSError, http.client.HTTPException, ValueError) as err:
            raise ControlError(f"{method} {path}: no answer from {self.endpoint_url}: {err}") from err


def _reason(err: urllib.error.HTTPError) -> str:
    text = err.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return f"{err.code} {text[:500]}"
