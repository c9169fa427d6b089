"""A new member waits for its hook from the first moment on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from local_aws.auto_scaling.lifecycle import GroupLifecycle
from local_aws.auto_scaling.members import LAUNCHING, Lifecycle
from local_aws.world import Timeline


class Lifecycles(GroupLifecycle):
    """A group's lifecycle with hooks of our choice in the place of moto's."""

    hooks: tuple[Any, ...] = ()

    @property
    def backend(self) -> Any:
        return SimpleNamespace(describe_lifecycle_hooks=lambda _: list(self.hooks))


def launched(*hooks: Any) -> tuple[Any, list[str]]:
    told: list[str] = []
    world: Any = SimpleNamespace(timeline=Timeline(), emit=lambda **event: told.append(event["detail_type"]))
    nobody: Any = None
    lifecycle = Lifecycles(world, nobody)
    lifecycle.hooks = hooks
    instance = SimpleNamespace(id="i-1", lifecycle="spot", subnet_id="subnet-1", state="running")
    record = SimpleNamespace(
        instance=instance,
        lifecycle_state="Pending",
        availability_zone="us-east-1a",
        instance_type="g5.xlarge",
    )
    group = SimpleNamespace(name="group", arn="arn", region="us-east-1", account_id="123456789012")
    return lifecycle.add(record, group, "because"), told


def test_node_that_is_up_before_its_group_looks_again_finds_its_hook_waiting() -> None:
    hook = SimpleNamespace(name="ready", lifecycle_transition=LAUNCHING, heartbeat_timeout=60)
    member, told = launched(hook)
    assert member.state is Lifecycle.PENDING_WAIT
    assert member.wait is not None
    assert told[-1] == "EC2 Instance-launch Lifecycle Action"


def test_member_without_a_hook_is_pending_until_its_group_looks() -> None:
    member, _ = launched()
    assert member.state is Lifecycle.PENDING
    assert member.wait is None
