"""Functions and nodes may do what they do and nothing else: deployed roles against the calls they make."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from spot_failover.incidents import Entry
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds

from tests.local.failover.deployed_fleet import DeployedFleet, wait_for
from tests.local.failover.function_role import DENIALS, FunctionRole

FUNCTIONS = ("deregister_target", "drain_node", "request_replacement", "track_incident")


class Exercise:
    """Makes every function use every permission, over and over, on a node that has left its group."""

    def __init__(self, fleet: DeployedFleet) -> None:
        self._fleet = fleet
        # What was refused before, other tests saw to.
        self.began = time.time()
        node, bystander = fleet.whole()[:2]
        self._node_id, self._bystander_id = node.instance_id, bystander.instance_id
        fleet.control.interrupt(self._node_id, notice_seconds=900, imds=False, event=False)
        fleet.notice(self._node_id)
        incident = fleet.incident_with(self._node_id, "drained_at", "replacement_in_service_at")
        commanded = (entry for entry in incident.entries if entry.outcome is Outcome.COMMANDED)
        self._command_id = next(commanded).detail["command_id"]
        self._role_names = [FunctionRole(fleet, function).name for function in FUNCTIONS]
        self._group_of_its_own = self._make_target_group()
        self._round = 0

    def end(self) -> None:
        """Leave no target group behind that other tests would find."""
        self._fleet.aws.client("elbv2").delete_target_group(TargetGroupArn=self._group_of_its_own)

    def _make_target_group(self) -> str:
        """Make one in which nobody else stays: a node that drains in it is taken back."""
        elb = self._fleet.aws.client("elbv2")
        made = elb.create_target_group(
            Name="a-nodes-own",
            Protocol="HTTP",
            Port=8000,
            VpcId=self._fleet.aws.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"],
            Tags=[{"Key": "spot-failover:fleet", "Value": "demo"}],
        )
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    def _drain_target(self) -> None:
        """Let the node drain in its own group, from where it is held, and a second later deregistered."""
        elb, node = self._fleet.aws.client("elbv2"), [{"Id": self._node_id}]
        elb.register_targets(TargetGroupArn=self._group_of_its_own, Targets=node)
        elb.deregister_targets(TargetGroupArn=self._group_of_its_own, Targets=node)

    def once(self) -> None:
        """Send one of everything."""
        self._round += 1
        fleet = self._fleet
        for function in FUNCTIONS:
            # Another configuration is another environment, which has looked nothing up yet.
            fleet.aws.client("lambda").update_function_configuration(
                FunctionName=f"spot-failover-{function}", MemorySize=1024 + self._round
            )
        for function in FUNCTIONS:
            fleet.aws.client("sqs").send_message(QueueUrl=fleet.queue_url(function), MessageBody="malformed")
        # A refusal that the client's own second attempt does not get past brings the message back.
        fleet.control.clear_faults()
        for role in self._role_names:
            for action in ("ec2:DescribeInstances", "ssm:ListCommandInvocations"):
                fleet.control.inject_fault(action, "ThrottlingException", count=2, role=role)
        self._drain_target()
        fleet.notice(self._node_id)
        self._drain_ends()
        self._launch_succeeds()

    def _drain_ends(self) -> None:
        self._fleet.control.put_event(
            source="aws.ssm",
            detail_type="EC2 Command Invocation Status-change Notification",
            detail={
                "command-id": self._command_id,
                "document-name": "SpotFailover-DrainNode",
                "instance-id": self._node_id,
                "requested-date-time": datetime.now(UTC).isoformat(),
                "status": "Success",
            },
        )

    def _launch_succeeds(self) -> None:
        """Let some incident wait for a replacement, and a launch be over."""
        now = datetime.now(UTC)
        waiting = Entry(
            incident=f"i-0{self._round:016x}",
            fleet="demo",
            at=now,
            step=Step.REPLACEMENT_REQUEST,
            outcome=Outcome.DETACHED,
            noticed_at=now,
            deadline=now + timedelta(seconds=60),
        )
        self._fleet.record(waiting)
        self._fleet.control.put_event(
            source="aws.autoscaling",
            detail_type="EC2 Instance Launch Successful",
            detail={
                "AutoScalingGroupName": "spot-failover-demo",
                "EC2InstanceId": f"i-1{self._round:016x}",
                "StartTime": format_milliseconds(now),
                "EndTime": format_milliseconds(now),
                "StatusCode": "InProgress",
            },
        )


@pytest.fixture(scope="module")
def exercise(fleet: DeployedFleet) -> Iterator[Exercise]:
    exercise = Exercise(fleet)
    yield exercise
    exercise.end()


@pytest.fixture
def roles(fleet: DeployedFleet) -> Iterator[dict[str, FunctionRole]]:
    roles = {function: FunctionRole(fleet, function) for function in FUNCTIONS}
    yield roles
    for role in roles.values():
        role.restore()
    fleet.control.clear_faults()


# What a node asks for when it boots, drains or gives up; what else it is granted, only failures use.
A_NODES_LIFE = {
    "autoscaling:CompleteLifecycleAction",
    "events:PutEvents",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "s3:GetObject",
}


# First of all: the exercise below leaves incidents open, which the next launches belong to.
def test_a_node_is_refused_nothing_from_its_boot_to_its_end(fleet: DeployedFleet) -> None:
    profiles = fleet.aws.client("iam").list_instance_profiles()["InstanceProfiles"]
    (role,) = {each["RoleName"] for profile in profiles for each in profile["Roles"]}
    node = fleet.whole()[0]
    fleet.control.interrupt(node.instance_id, notice_seconds=60)
    fleet.incident_with(node.instance_id, "drained_at", "replacement_in_service_at")

    def calls_of(result: Callable[[str], bool]) -> set[str]:
        return {call["action"] for call in fleet.control.calls(role) if result(call["result"])}

    wait_for("a node's every call", lambda: calls_of(lambda result: result == "ok") >= A_NODES_LIFE)
    assert calls_of(lambda result: result in DENIALS) == set()


def test_every_function_uses_what_its_role_grants_and_is_refused_nothing(
    exercise: Exercise, roles: dict[str, FunctionRole]
) -> None:
    exercise.once()
    assert _wait_for_nothing(lambda: _unused(roles), seconds=30) == {}, "granted, and never used"
    refused = {function: role.called(since=exercise.began, denied=True) for function, role in roles.items()}
    assert {function: actions for function, actions in refused.items() if actions} == {}


def _unused(roles: dict[str, FunctionRole]) -> dict[str, set[str]]:
    left = {function: role.granted() - role.called() for function, role in roles.items()}
    return {function: actions for function, actions in left.items() if actions}


def _wait_for_nothing(look: Callable[[], dict[str, set[str]]], *, seconds: float) -> dict[str, set[str]]:
    give_up_at = time.monotonic() + seconds
    while (left := look()) and time.monotonic() < give_up_at:
        time.sleep(0.2)
    return left


def test_a_function_without_one_of_its_permissions_is_refused_exactly_that(
    exercise: Exercise, roles: dict[str, FunctionRole]
) -> None:
    """Round k takes the k-th permission from each function, and one exercise must miss them all."""
    grants = {function: sorted(role.granted()) for function, role in roles.items()}
    for number in range(max(map(len, grants.values()))):
        taken = {function: grant[number] for function, grant in grants.items() if number < len(grant)}
        since = time.time()
        for function, action in taken.items():
            roles[function].take(action)
        exercise.once()

        def not_as_taken(since: float = since, taken: dict[str, str] = taken) -> dict[str, set[str]]:
            odd = {
                function: roles[function].called(since=since, denied=True) ^ {action}
                for function, action in taken.items()
            }
            return {function: actions for function, actions in odd.items() if actions}

        assert _wait_for_nothing(not_as_taken, seconds=20) == {}, f"refused otherwise than {taken} taken"
        for function in taken:
            roles[function].restore()
