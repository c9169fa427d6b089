"""EC2's side of an instance's end: terminations, stops, and the interruption of spot instances."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance, StateReason

from local_aws.auto_scaling import events as group_events
from local_aws.auto_scaling.lifecycle import emit
from local_aws.auto_scaling.members import instance_arn
from local_aws.load_balancing.targets import Targets
from local_aws.moto_override import wrap
from local_aws.nodes.imds import SpotAction
from local_aws.nodes.registry import Nodes
from local_aws.world import World

_ACTIONS = ("terminate", "stop")
_MOST_NOTICE_SECONDS = 3600.0


class SpotInterruptions:
    """Takes spot instances back: a notice in IMDS and on the bus, and the end when it has run out."""

    def __init__(self, world: World, nodes: Nodes) -> None:
        self._world = world
        self._nodes = nodes
        self._timers: set[threading.Timer] = set()

    def interrupt_all(
        self, instance_ids: Sequence[str], *, notice_seconds: float, imds: bool, event: bool, action: str
    ) -> list[float]:
        """Give notice of interruptions, one after another, and return their epoch seconds.

        `imds=False` withholds it from the instances' metadata, `event=False` from the bus. Raises LookupError
        for an unknown instance and ValueError for one that EC2 would not interrupt.
        """
        if action not in _ACTIONS:
            raise ValueError(f"action must be one of {', '.join(_ACTIONS)}, not {action}")
        if not 0 < notice_seconds <= _MOST_NOTICE_SECONDS:
            raise ValueError(f"notice_seconds must be above 0 and at most {_MOST_NOTICE_SECONDS:g}")
        instances: list[Any] = []
        times = []
        try:
            # All at once: no call comes between two of them.
            with self._world.lock:
                for instance_id in instance_ids:
                    instance, noticed_at = self._notify(instance_id, notice_seconds, imds, event, action)
                    instances.append(instance)
                    times.append(noticed_at)
        finally:
            # Who got a notice goes, whatever became of the others'.
            self._start_timer(notice_seconds, instances, action)
        return times

    def _notify(
        self, instance_id: str, notice_seconds: float, imds: bool, event: bool, action: str
    ) -> tuple[Any, float]:
        """Give one notice; return the instance and the notice's epoch seconds."""
        node = self._nodes.get(instance_id)
        with self._world.lock:
            instance = ec2_backends[self._world.account_id][self._world.region].get_instance_by_id(
                instance_id
            )
            if instance is None:
                raise LookupError(f"no instance {instance_id}")
            if instance.lifecycle != "spot" or instance.state != "running":
                raise ValueError(f"{instance_id} is {instance.lifecycle or 'on demand'} and {instance.state}")
        noticed_at = time.time()
        if node is not None:
            if node.noticed_at is not None:
                raise ValueError(f"{instance_id} has its notice already")
            node.noticed_at, node.deadline = noticed_at, noticed_at + notice_seconds
            if imds:
                node.imds.spot_action = SpotAction(action, noticed_at + notice_seconds)
                # What the agent of a node that is more than this record does by itself.
                node.draining = node.bare
        self._world.timeline.record(
            "interruption",
            instance_id=instance_id,
            notice_seconds=notice_seconds,
            imds=imds,
            event=event,
            action=action,
        )
        if event:
            arn = instance_arn(self._world.region, self._world.account_id, instance_id)
            warning = group_events.interruption_warning(arn, instance_id=instance_id, action=action)
            # Events carry whole seconds.
            emit(self._world, warning, at=float(int(noticed_at)))
        return instance, noticed_at

    def _start_timer(self, seconds: float, instances: Sequence[Any], action: str) -> None:
        timer = threading.Timer(seconds, self._take_all_back, (instances, action))
        timer.daemon = True
        self._timers.add(timer)
        timer.start()

    def _take_all_back(self, instances: Sequence[Any], action: str) -> None:
        for instance in instances:
            self._take_back(instance, action)

    def _take_back(self, instance: Any, action: str) -> None:
        with self._world.lock:
            if instance.state != "running":
                return
            if action == "terminate":
                instance.terminate()
            else:
                instance.stop()
            code = (
                "Server.SpotInstanceTermination" if action == "terminate" else "Server.SpotInstanceShutdown"
            )
            instance.state_reason = StateReason(f"{code}: Spot instance interruption", code)

    def stop(self) -> None:
        """Take nothing back any more: the local AWS stops."""
        for timer in self._timers:
            timer.cancel()


def apply_overrides(world: World, nodes: Nodes, targets: Targets) -> None:
    """Let an instance's end in moto be the end of the node behind it, whoever asked for it."""

    def ended(original: Any, instance: Any, *, passing: str, final: Literal["stopped", "terminated"]) -> Any:
        before = instance.state
        answer = original(instance)
        if before in (final, "terminated"):
            return answer
        targets.forget_instance(instance.id)
        arn = instance_arn(world.region, world.account_id, instance.id)
        for state in (passing, final):
            emit(world, group_events.instance_state_change(arn, instance_id=instance.id, state=state))
        # In a thread: killing takes a moment, and the caller holds the world's lock.
        threading.Thread(target=nodes.end, args=(instance.id,), kwargs={"state": final}, daemon=True).start()
        return answer

    wrap(Instance, "terminate", lambda o, i: ended(o, i, passing="shutting-down", final="terminated"))
    wrap(Instance, "stop", lambda o, i: ended(o, i, passing="stopping", final="stopped"))


def add_routes(world: World, interruptions: SpotInterruptions) -> None:
    """Serve `POST interrupt` and `POST interrupt-all`."""

    def interrupt(given: Mapping[str, Any]) -> dict[str, float]:
        (noticed_at,) = interrupt_all({**given, "instance_ids": [given["instance_id"]]})["noticed_at"]
        return {"noticed_at": noticed_at}

    def interrupt_all(given: Mapping[str, Any]) -> dict[str, list[float]]:
        noticed_at = interruptions.interrupt_all(
            [str(each) for each in given["instance_ids"]],
            notice_seconds=float(given.get("notice_seconds", 120)),
            imds=bool(given.get("imds", True)),
            event=bool(given.get("event", True)),
            action=str(given.get("action", "terminate")),
        )
        return {"noticed_at": noticed_at}

    world.route("POST", "interrupt", interrupt)
    world.route("POST", "interrupt-all", interrupt_all)
