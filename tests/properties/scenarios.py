"""Strategies that make scenarios: what fleets there are, what happens to them, and what goes wrong."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.simulation.bus import Delivery
from tests.simulation.network import Fault, FaultKind
from tests.simulation.nodes import Agent, NodePlan
from tests.simulation.scenario import (
    End,
    FleetPlan,
    ForeignNotice,
    Interruption,
    Junk,
    Scenario,
    Storm,
    Weather,
)
from tests.simulation.world import QUEUE_FUNCTIONS

# Whatever a function may call, a fault may meet.
LOOKUPS = (
    "DescribeInstances",
    "DescribeAutoScalingGroups",
    "DescribeAutoScalingInstances",
    "DescribeTargetHealth",
    "GetResources",
    "ListCommandInvocations",
    "Query",
    "Scan",
)
ACTIONS = (
    "DeregisterTargets",
    "RegisterTargets",
    "SendCommand",
    "DetachInstances",
    "TerminateInstances",
    "BatchWriteItem",
    "TransactWriteItems",
)
QUEUE_CALLS = (
    "ReceiveMessage",
    "SendMessage",
    "SendMessageBatch",
    "DeleteMessageBatch",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
)
PASSING = (
    FaultKind.THROTTLED,
    FaultKind.SERVER_ERROR,
    FaultKind.UNREACHABLE,
    FaultKind.LOST_ANSWER,
    FaultKind.CRASH_BEFORE,
    FaultKind.CRASH_AFTER,
)
OWN = {
    "DetachInstances": (FaultKind.CONTENTION,),
    "TransactWriteItems": (FaultKind.CONFLICT,),
}


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """A call that fails a few times, now and then for as long as the scenario lasts."""
    operation = draw(st.sampled_from((*ACTIONS, *LOOKUPS, *QUEUE_CALLS)))
    kinds = (*PASSING, *OWN.get(operation, ()))
    if operation in ACTIONS and operation.endswith(("Targets", "Command", "Instances")):
        kinds = (*kinds, FaultKind.DENIED)
    kind = draw(st.sampled_from(kinds))
    skip = draw(st.integers(0, 6))
    if kind in (FaultKind.THROTTLED, FaultKind.SERVER_ERROR):
        times = draw(st.sampled_from((1, 2, 3, 5, 10**6)))
    else:
        times = draw(st.integers(1, 3))
    return Fault(operation, kind, skip=skip, times=times)


NODE_PLANS = st.builds(
    NodePlan,
    boot=st.sampled_from((30.0, 5.0, 200.0)),
    drain=st.sampled_from((20.0, 1.0, 300.0)),
    agent=st.sampled_from((Agent.WELL, Agent.WELL, Agent.UNKNOWN, Agent.OFFLINE, Agent.IDLE)),
    failed_boots=st.sampled_from((0, 0, 0, 1, 2)),
    reports=st.sampled_from((True, True, False)),
)
FLEETS = st.builds(
    FleetPlan,
    nodes=st.sampled_from((2, 1, 3, 5)),
    node=NODE_PLANS,
    target_groups=st.sampled_from((1, 1, 2, 0)),
    tagged_port=st.sampled_from((None, None, 9000)),
    capacity_rebalance=st.sampled_from((False, False, False, True)),
    refusals=st.sampled_from((0, 0, 0, 1, 3)),
)
# In a second, in five, too late for much, too late for all; twice; and never, for notices are best effort.
DELAYS = st.sampled_from((0.2, 0.2, 1.0, 5.0, 50.0, 100.0, 119.0, 122.0, 300.0))
DELIVERIES = st.builds(
    Delivery,
    st.one_of(
        st.just((0.2,)),
        st.tuples(DELAYS),
        st.tuples(DELAYS, DELAYS),
        st.tuples(DELAYS, DELAYS, DELAYS),
        st.just(()),
    ),
)
# Often all at once, for that is how capacity goes.
TIMES = st.one_of(
    st.just(1.0), st.integers(0, 30).map(lambda tenth: tenth / 10), st.integers(0, 400).map(float)
)
INTERRUPTIONS = st.builds(
    Interruption,
    at=TIMES,
    fleet=st.integers(0, 2),
    node=st.integers(0, 5),
    end=st.sampled_from((End.TERMINATE, End.TERMINATE, End.STOP, End.HIBERNATE, End.WITHDRAWN)),
    delivery=DELIVERIES,
    heard=st.sampled_from((True, True, False)),
)
EVENTS = st.one_of(
    INTERRUPTIONS,
    INTERRUPTIONS,
    INTERRUPTIONS,
    INTERRUPTIONS,
    st.builds(Storm, at=TIMES, end=st.sampled_from((End.TERMINATE, End.STOP, End.WITHDRAWN))),
    st.builds(ForeignNotice, at=TIMES, known=st.booleans()),
    st.builds(
        Junk,
        at=TIMES,
        function=st.sampled_from(QUEUE_FUNCTIONS),
        body=st.sampled_from(("", "null", "[]", '{"detail": {}}', "what?")),
    ),
)
WEATHERS = st.builds(
    Weather,
    seed=st.integers(0, 2**16),
    concurrency=st.sampled_from((2, 1, 5)),
    slowest_event=st.sampled_from((1.0, 0.2, 30.0)),
    repeats=st.sampled_from((0.0, 0.0, 0.3, 1.0)),
    copies=st.frozensets(st.integers(0, 20), max_size=4),
    index_lag=st.sampled_from((0.5, 0.0, 3.0)),
    left_over=st.frozensets(st.integers(0, 8), max_size=3),
    page_size=st.sampled_from((1000, 3)),
    sweeps_twice=st.booleans(),
)
SCENARIOS = st.builds(
    Scenario,
    fleets=st.lists(FLEETS, min_size=1, max_size=3).map(tuple),
    events=st.lists(EVENTS, min_size=1, max_size=10).map(tuple),
    faults=st.lists(faults(), max_size=5).map(tuple),
    weather=WEATHERS,
)
