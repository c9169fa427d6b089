"""The word to the group that a node is ready."""

from __future__ import annotations

import io
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import hook
from gpu_node_bootstrap.node_agent.errors import HookError
from gpu_node_bootstrap.node_agent.hook import HookAnswer, HookCompleter, HookResult, complete_once
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.settings import Settings

SETTINGS = {
    "SPOT_FAILOVER_FLEET": "chat",
    "SPOT_FAILOVER_REGION": "eu-west-1",
    "SPOT_FAILOVER_ASG_NAME": "spot-failover-chat",
    "SPOT_FAILOVER_LIFECYCLE_HOOK": "spot-failover-ready",
    "SPOT_FAILOVER_ENGINE": "process",
    "SPOT_FAILOVER_ENGINE_COMMAND": '["engine"]',
    "SPOT_FAILOVER_SERVED_MODEL_NAME": "tiny",
}


@pytest.fixture
def settings(aws: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PATH", str(aws.directory), prepend=":")
    monkeypatch.setattr(hook, "FIRST_PAUSE_SECONDS", 0.01)
    return Settings.from_environment(SETTINGS)


def completer(settings: Settings, **changes: Any) -> HookCompleter:
    known: dict[str, Any] = {
        "instance_id": lambda: "i-0123456789abcdef0",
        "answer": lambda: HookAnswer.CONTINUE,
        "log": Log(stream=io.StringIO()),
    }
    return HookCompleter(settings, **{**known, **changes})


def test_a_call_that_fails_is_tried_again_until_it_succeeds(settings: Settings, aws: Any) -> None:
    aws.behaves('[ "$n" -ge 3 ] || { echo "AccessDenied: not yet" >&2; exit 254; }')
    thread = completer(settings)
    thread.run()
    assert (thread.view.result, thread.view.tries, len(aws.calls)) == (HookResult.COMPLETED, 3, 3)


def test_a_group_that_waits_for_nothing_is_not_asked_again(settings: Settings, aws: Any) -> None:
    aws.behaves('echo "(ValidationError): No active Lifecycle Action found with instance ID" >&2; exit 254')
    thread = completer(settings)
    thread.run()
    assert (thread.view.result, len(aws.calls)) == (HookResult.NOT_WAITING, 1)


def test_a_node_that_will_not_be_ready_abandons_its_launch_instead(settings: Settings, aws: Any) -> None:
    aws.behaves('[ "$n" -ge 3 ] || exit 1')
    thread = completer(
        settings, answer=lambda: HookAnswer.CONTINUE if len(aws.calls) < 2 else HookAnswer.ABANDON
    )
    thread.run()
    assert (thread.view.result, thread.view.answer) == (HookResult.COMPLETED, HookAnswer.ABANDON)
    assert [call.split()[-1] for call in aws.calls] == ["CONTINUE", "CONTINUE", "ABANDON"]


def test_a_node_that_starts_says_nothing_yet(settings: Settings, aws: Any) -> None:
    answers = iter([None, None, HookAnswer.CONTINUE])
    thread = completer(settings, answer=lambda: next(answers))
    thread.run()
    assert (thread.view.result, len(aws.calls)) == (HookResult.COMPLETED, 1)


def test_a_fleet_without_a_hook_calls_nothing(settings: Settings, aws: Any) -> None:
    without = Settings.from_environment({**SETTINGS, "SPOT_FAILOVER_LIFECYCLE_HOOK": ""})
    thread = completer(without)
    thread.run()
    assert (thread.view.result, aws.calls) == (HookResult.NO_HOOK, [])


def test_a_command_line_that_is_missing_or_hangs_is_an_error_to_try_again(
    settings: Settings, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "CALL_SECONDS", 0.2)
    aws.behaves("exec sleep 30")
    with pytest.raises(HookError, match="timed out"):
        complete_once(settings, "i-0123456789abcdef0", HookAnswer.CONTINUE)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HookError, match="aws"):
        complete_once(settings, "i-0123456789abcdef0", HookAnswer.CONTINUE)
