"""What must be so at the end of every scenario, whatever happened: each check returns what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from spot_failover.outcomes import Outcome as StepOutcome
from spot_failover.outcomes import Step

from tests.simulation.network import FaultKind
from tests.simulation.nodes import FLEET_TAG
from tests.simulation.play import LATE, Outcome
from tests.simulation.scaling import Lifecycle
from tests.simulation.world import FOREIGN_GROUP, QUEUE_FUNCTIONS

LASTING = 10  # times in a row
# Every call that changes something outside of queues and table, and where its instances stand.
_ACTIONS = {
    "DeregisterTargets": "Targets",
    "RegisterTargets": "Targets",
    "SendCommand": "InstanceIds",
    "DetachInstances": "InstanceIds",
    "TerminateInstances": "InstanceIds",
}


def problems(outcome: Outcome) -> list[str]:
    """Return everything that is not as it must be."""
    checks = (
        _crashes,
        _messages,
        _deregistered,
        _replacements,
        _capacity,
        _owned,
        _foreign,
        _records,
        _closed,
    )
    return [problem for check in checks for problem in check(outcome)]


def _crashes(outcome: Outcome) -> Iterator[str]:
    """No handler ends with an error, but for the sweeper's that tells of what it was denied."""
    denied = any(fault.kind is FaultKind.DENIED for fault in outcome.world.scenario.faults)
    for function in outcome.world.functions.values():
        told = "sweep_incidents: PermanentAwsError: "
        yield from (one for one in function.problems if not (denied and one.startswith(told)))


def _messages(outcome: Outcome) -> Iterator[str]:
    """No message is left in a queue: each was handled, or dead-lettered with its reason."""
    sending = ("SendMessage", "SendMessageBatch")
    faults = outcome.world.scenario.faults
    unreachable = any(one.operation in sending and one.times > LASTING for one in faults)
    for name in QUEUE_FUNCTIONS:
        queues = outcome.world.queues[name]
        for message in queues.queue.messages.values():
            yield f"{name}: a message is left after {message.receives} receptions: {message.body[:200]}"
        # The queue's own net catches what could not be dead-lettered with its reason for as long as that.
        for message in queues.dead.messages.values():
            if "reason" not in message.attributes and not (message.redriven and unreachable):
                yield f"{name}: dead-lettered without a reason: {message.body[:200]}"


def _deregistered(outcome: Outcome) -> Iterator[str]:
    """Every interrupted node is out of its target groups or dead, or its notice is a dead letter."""
    yield from outcome.late
    for notice in outcome.notices:
        if not notice.instance.alive or min(notice.plan.delivery.delays, default=LATE) >= LATE:
            continue  # nobody was told in time, and nobody was taken away
        if notice.booting:
            continue  # the notice was withdrawn before it served: its group brings it up as if nothing were
        left = outcome.world.balancing.registered(notice.instance.instance_id)
        if left and not _is_dead_letter(outcome, "deregister_target", notice.instance.instance_id):
            yield f"{notice.instance.instance_id} is alive and registered in {left}"


def _replacements(outcome: Outcome) -> Iterator[str]:
    """Nobody left a group without a reason, and in the incidents nobody has two replacements.

    A group launches one for each that leaves (`_capacity` counts who is there): at most one for each notice.
    """
    world = outcome.world
    noticed = {one.instance.instance_id for one in outcome.notices}
    for group in world.groups.groups.values():
        left = {*group.original, *group.launched} - group.members.keys()
        if unexplained := left - noticed - group.gave_up:
            yield f"{group.name} lost {sorted(unexplained)} without a notice or a failed boot"
    claims = [one for one in world.table.items.values() if one["incident"]["S"].startswith("claim#")]
    for side in ("replaces", "replaced_by"):
        counted = Counter(one["departing"]["S"] for one in claims if one["entry"]["S"] == side)
        yield from (f"{key} has {times} replacements" for key, times in counted.items() if times > 1)


def _capacity(outcome: Outcome) -> Iterator[str]:
    """Desired capacity is what it was, and as many nodes are in service as that."""
    world = outcome.world
    wanted = {f"fleet-{number}": plan.nodes for number, plan in enumerate(world.scenario.fleets)}
    for name, nodes in wanted.items():
        group = world.groups.groups[name]
        if group.desired != nodes:
            yield f"{name} has a desired capacity of {group.desired}, not {nodes}"
        alive = [
            one for one in group.members.values() if one.state is Lifecycle.IN_SERVICE and one.instance.alive
        ]
        if len(alive) != nodes:
            yield f"{name} has {len(alive)} nodes in service, not {nodes}"


def _owned(outcome: Outcome) -> Iterator[str]:
    """No node of ours lives on in no group, past its notice."""
    world = outcome.world
    for instance in world.ec2.instances.values():
        if FLEET_TAG not in instance.tags or not _costs(instance.state):
            continue
        key = instance.instance_id
        if world.groups.group_of(key) is None and not _given_up(outcome, key):
            yield f"{instance.instance_id} is {instance.state} and in no group"


def _given_up(outcome: Outcome, instance_id: str) -> bool:
    """Whether nobody could record a detach until its notice was over: it is a dead letter, or told as missed.

    Nobody's node is ended on a guess.
    """
    if _is_dead_letter(outcome, "request_replacement", instance_id):
        return True
    items = [one for one in outcome.world.table.items.values() if one["incident"]["S"] == instance_id]
    told = {one["outcome"]["S"] for one in items if one.get("step") == {"S": Step.REPLACEMENT_REQUEST}}
    out = {StepOutcome.DETACHED, StepOutcome.ALREADY_DETACHED}
    return StepOutcome.MISSED in told and not out & told


def _costs(state: str) -> bool:
    return state not in ("shutting-down", "terminated")


def _foreign(outcome: Outcome) -> Iterator[str]:
    """Nothing is done to anybody but nodes of ours that had their notice, through their own groups."""
    world = outcome.world
    noticed = {one.instance.instance_id for one in outcome.notices}
    for call in world.network.journal:
        if call.operation not in _ACTIONS:
            continue
        given = call.parameters[_ACTIONS[call.operation]]
        ids = {one if isinstance(one, str) else one["Id"] for one in given}
        if not ids <= noticed:
            yield f"{call.by} called {call.operation} on {sorted(ids - noticed)}, who had no notice"
        if FOREIGN_GROUP in str({**call.parameters, "InstanceIds": (), "Targets": ()}):
            yield f"{call.by} called {call.operation} on a group of somebody else's"


def _records(outcome: Outcome) -> Iterator[str]:
    """What the incidents say was done, was done."""
    world = outcome.world
    detached = {
        key
        for call in world.network.journal
        if call.operation == "DetachInstances" and call.served
        for key in call.parameters["InstanceIds"]
    }
    for item in world.table.items.values():
        if "step" not in item:
            continue
        incident, step, told = (item[name]["S"] for name in ("incident", "step", "outcome"))
        if world.ec2.instances[incident].noticed_at is None:
            yield f"{incident} has an incident and had no notice"
        if step == Step.REPLACEMENT_REQUEST and told == StepOutcome.DETACHED and incident not in detached:
            yield f"{incident} is recorded as detached and was not"


def _closed(outcome: Outcome) -> Iterator[str]:
    """Every incident is closed, once."""
    items = [one for one in outcome.world.table.items.values() if "step" in one]
    closings = Counter(one["incident"]["S"] for one in items if one["step"]["S"] == Step.CLOSE)
    for incident in {one["incident"]["S"] for one in items}:
        if _unrecorded(outcome) and not closings[incident]:
            continue
        if closings[incident] != 1:
            yield f"the incident {incident} was closed {closings[incident]} times"
    for item in items:
        if "open_incident" in item:
            yield f"the incident {item['incident']['S']} is still marked as open"


def _unrecorded(outcome: Outcome) -> bool:
    """Whether what opens an incident could not be written for good: a dead letter rings."""
    return any(
        one.operation == "BatchWriteItem" and one.times > LASTING for one in outcome.world.scenario.faults
    )


def _is_dead_letter(outcome: Outcome, function: str, instance_id: str) -> bool:
    return any(
        isinstance(body, dict)
        and isinstance(body.get("detail"), dict)
        and body["detail"].get("instance-id") == instance_id
        for body in outcome.dead_letters(function)
    )
