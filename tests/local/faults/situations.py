"""Notices as they can come, and the states of the nodes they are about: each with what it must come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.local.faults.plane import NOTICE_SECONDS, Plane


@dataclass(frozen=True)
class Told:
    """A message: its text, and for how many seconds it is late after the one before it."""

    body: str
    after: float = 0.0


@dataclass(frozen=True)
class Expected:
    """What is on record of the node in the end, what was changed, and where the messages are."""

    outcomes: frozenset[str]
    """All outcomes there may be; at least one must be, unless there may be none."""
    changes: tuple[int, int] = (0, 0)
    """The least and the most."""
    dead: bool = False


@dataclass(frozen=True)
class Situation:
    """A node of a kind, and what is told of it."""

    name: str
    node: Callable[[Plane, str], str]
    tell: Callable[[Plane, str], Sequence[Told]]
    expected: Mapping[str, Expected]
    is_replaced: bool = True
    """False: a replacement is there already when the node leaves its group."""


def _expect(deregister: Expected, drain: Expected, replacement: Expected) -> Mapping[str, Expected]:
    return {"deregister_target": deregister, "drain_node": drain, "request_replacement": replacement}


def _ends(*outcomes: str, changes: tuple[int, int] = (0, 0), dead: bool = False) -> Expected:
    return Expected(frozenset(outcomes), changes, dead)


HANDLED = _expect(
    _ends("deregistered", changes=(1, 1)),
    _ends("commanded", changes=(1, 1)),
    _ends("detached", changes=(1, 1)),
)
# A second time: the node drains once however often it is told, and can leave its group only once.
HANDLED_TWICE = _expect(
    _ends("deregistered", "not_registered", changes=(1, 1)),
    _ends("commanded", changes=(1, 2)),
    _ends("detached", "already_detached", changes=(1, 1)),
)
MISSED = _expect(_ends("missed"), _ends("missed"), _ends("missed"))
NOBODYS = _expect(_ends(), _ends(), _ends())
REFUSED = _expect(_ends(dead=True), _ends(dead=True), _ends(dead=True))


def member(plane: Plane, function: str) -> str:
    """A node in service."""
    fleet = next(iter(plane))
    return plane.fleets.take(fleet) if function == "request_replacement" else plane.fleets.steady(fleet)


def detached(plane: Plane, function: str) -> str:
    """A node that has left its group and still runs."""
    node = plane.fleets.take(next(iter(plane)))
    plane.aws.client("autoscaling").detach_instances(
        AutoScalingGroupName=next(iter(plane)).group, InstanceIds=[node], ShouldDecrementDesiredCapacity=False
    )
    plane.fleets.wait_until_deregistered(node)
    plane.fleets.gone_from_its_group(node)
    return node


def gone(plane: Plane, function: str) -> str:
    """A node that has left its group and is ended."""
    node = detached(plane, function)
    plane.fleets.end([node])
    return node


def in_standby(plane: Plane, function: str) -> str:
    """A node that an operator has taken out of service."""
    fleet = next(iter(plane))
    node = plane.fleets.take(fleet)
    plane.aws.client("autoscaling").enter_standby(
        AutoScalingGroupName=fleet.group, InstanceIds=[node], ShouldDecrementDesiredCapacity=False
    )
    plane.fleets.wait_until_whole(fleet)  # its place is taken by another
    return node


def foreign(plane: Plane, function: str) -> str:
    """An instance of the same account that carries no fleet's tag."""
    return plane.instance()


def nobodys(plane: Plane, function: str) -> str:
    """An instance id that the account does not know."""
    return plane.unknown_id()


def alone(plane: Plane, function: str) -> str:
    """An instance with a fleet's tag that no group launched, and whose Systems Manager agent is offline."""
    return plane.instance(fleet=next(iter(plane)).name)


def once(**given: Any) -> Callable[[Plane, str], Sequence[Told]]:
    """One notice; `late` is how many seconds after its own time it comes."""

    def tell(plane: Plane, node: str) -> Sequence[Told]:
        late = given.get("late", 0.0)
        return [Told(plane.notice(node, at=plane.clock.now - late, action=given.get("action", "terminate")))]

    return tell


def copies(*after: float) -> Callable[[Plane, str], Sequence[Told]]:
    """The same notice several times over."""

    def tell(plane: Plane, node: str) -> Sequence[Told]:
        body = plane.notice(node)
        return [Told(body, seconds) for seconds in after]

    return tell


def reordered(plane: Plane, node: str) -> Sequence[Told]:
    """Two notices, the newer first: the earlier deadline is the one that holds."""
    now = plane.clock.now
    return [Told(plane.notice(node, at=now)), Told(plane.notice(node, at=now - 20), 1.0)]


def text(body: str) -> Callable[[Plane, str], Sequence[Told]]:
    """Something that is no notice."""
    return lambda _, __: [Told(body)]


def event(
    *,
    source: str = "aws.ec2",
    detail_type: str = "EC2 Spot Instance Interruption Warning",
    **detail: Any,
) -> Callable[[Plane, str], Sequence[Told]]:
    """An event with some of a notice's fields made otherwise."""

    def tell(plane: Plane, node: str) -> Sequence[Told]:
        whole = {"instance-id": node, "instance-action": "terminate", **detail}
        return [Told(plane.event(source, detail_type, whole))]

    return tell


def without_an_action(plane: Plane, node: str) -> Sequence[Told]:
    """A notice that does not say what will be done."""
    return [Told(plane.event("aws.ec2", "EC2 Spot Instance Interruption Warning", {"instance-id": node}))]


SITUATIONS = (
    Situation("a duplicate in the same batch", member, copies(0, 0), HANDLED_TWICE),
    Situation("a duplicate a second later", member, copies(0, 1), HANDLED_TWICE),
    Situation(
        "a duplicate shortly before the deadline", member, copies(0, NOTICE_SECONDS - 2), HANDLED_TWICE
    ),
    Situation("a late notice, still in time", member, once(late=NOTICE_SECONDS - 5), HANDLED),
    Situation("a notice after its deadline", member, once(late=NOTICE_SECONDS + 1), MISSED),
    Situation("an event replayed hours later", member, once(late=5 * 3600), MISSED),
    Situation("a stale event of another year", member, once(late=400 * 86400), MISSED),
    Situation("an early notice, from a clock that is ahead", member, once(late=-30), HANDLED),
    Situation("two notices in the wrong order", member, reordered, HANDLED_TWICE),
    Situation("a node that is to be stopped", member, once(action="stop"), HANDLED),
    Situation("a node that is to hibernate", member, once(action="hibernate"), HANDLED),
    Situation("a foreign instance", foreign, once(), NOBODYS),
    Situation("an instance that nobody knows", nobodys, once(), NOBODYS),
    Situation(
        "a node already detached",
        detached,
        once(),
        _expect(
            # The detach itself takes it out of its target groups, a moment later.
            _ends("deregistered", "not_registered", changes=(0, 1)),
            _ends("commanded", changes=(1, 1)),
            _ends("already_detached"),
        ),
    ),
    Situation(
        "a node already gone",
        gone,
        once(),
        _expect(
            _ends("deregistered", "not_registered", changes=(0, 1)),
            _ends("not_managed", "missed"),
            _ends("already_detached"),
        ),
    ),
    Situation(
        "a node in standby",
        in_standby,
        once(),
        _expect(
            _ends("deregistered", "not_registered", changes=(0, 1)),
            _ends("commanded", changes=(1, 1)),
            _ends("detached", changes=(1, 1)),
        ),
        is_replaced=False,
    ),
    Situation(
        "a node without a group, its SSM agent offline",
        alone,
        once(),
        _expect(
            _ends("deregistered", "not_registered"), _ends("not_managed", "missed"), _ends("already_detached")
        ),
    ),
    Situation("no JSON", member, text("i-0123456789abcdef0"), REFUSED),
    Situation("an event without a detail", member, text('{"source": "aws.ec2"}'), REFUSED),
    Situation(
        "an instance id with a shell command", member, event(**{"instance-id": "i-1; reboot"}), REFUSED
    ),
    Situation("an unknown action", member, event(**{"instance-action": "explode"}), REFUSED),
    Situation("a notice without its action", member, without_an_action, REFUSED),
    Situation("somebody else's event", member, event(source="com.example"), REFUSED),
    Situation(
        "a rebalance recommendation",
        member,
        event(detail_type="EC2 Instance Rebalance Recommendation"),
        REFUSED,
    ),
)
