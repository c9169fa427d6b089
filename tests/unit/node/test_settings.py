"""What the agent is told: the environment, systemd's files, and the drain command's deadlines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node_bootstrap.node_agent.boot import Phase
from gpu_node_bootstrap.node_agent.deadlines import own_deadline, parse_deadlines
from gpu_node_bootstrap.node_agent.env_file import effective_environment, parse_env_file
from gpu_node_bootstrap.node_agent.errors import ControlError, SettingsError
from gpu_node_bootstrap.node_agent.settings import EngineKind, Settings
from gpu_node_bootstrap.node_agent.state import NodeState, StateMachine
from gpu_node_bootstrap.node_agent.times import format_utc, parse_utc

ENVIRONMENT = {
    "SPOT_FAILOVER_FLEET": "chat",
    "SPOT_FAILOVER_REGION": "eu-west-1",
    "SPOT_FAILOVER_ASG_NAME": "spot-failover-chat",
    "SPOT_FAILOVER_IMAGE": "vllm/vllm-openai:v0.32.0",
    "SPOT_FAILOVER_MODEL": "some/model",
    "SPOT_FAILOVER_SERVED_MODEL_NAME": "model",
    "SPOT_FAILOVER_ENGINE_ARGS": '["--max-model-len", "8192"]',
}


def test_a_container_is_the_default_and_the_rest_has_defaults_too() -> None:
    settings = Settings.from_environment(ENVIRONMENT)
    assert settings.engine is EngineKind.CONTAINER
    assert settings.engine_args == ("--max-model-len", "8192")
    assert (settings.engine_port, settings.health_port) == (8000, 8081)
    assert (settings.settle_seconds, settings.deadline_margin_seconds) == (15, 8)
    assert settings.lifecycle_hook == ""
    assert (settings.health_host, settings.engine_host) == ("auto", "auto")
    assert settings.phase_limits[Phase.ENGINE] == 1200
    assert (settings.booted_at, settings.user_data_started_at) == (None, None)


@pytest.mark.parametrize("missing", [name for name in ENVIRONMENT if not name.endswith("_ARGS")])
def test_a_missing_setting_is_named(missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        Settings.from_environment({name: value for name, value in ENVIRONMENT.items() if name != missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENGINE", "podman"),
        ("ENGINE_ARGS", "--max-model-len 8192"),
        ("ENGINE_ARGS", "[1]"),
        ("ENGINE_PORT", "0"),
        ("HEALTH_PORT", "http"),
        ("SETTLE_SECONDS", "-1"),
        ("DEADLINE_MARGIN_SECONDS", "nan"),
        ("WEIGHTS_URI", "https://bucket/prefix"),
        ("WEIGHTS_LOAD", "copy"),
        ("ARTIFACTS_URI", "s3:///prefix"),
        ("BOOTED_AT", "yesterday"),
        ("PHASE_LIMITS", "[]"),
        ("PHASE_LIMITS", '{"lunch": 3600}'),
        ("PHASE_LIMITS", '{"engine": -1}'),
        ("RESTART_LIMIT", "-1"),
        ("RESTART_LIMIT", "often"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"SPOT_FAILOVER_{name} is '") as raised:
        Settings.from_environment({**ENVIRONMENT, f"SPOT_FAILOVER_{name}": value})
    assert value in str(raised.value)


def test_a_process_needs_a_command_and_no_image() -> None:
    local = {**ENVIRONMENT, "SPOT_FAILOVER_ENGINE": "process", "SPOT_FAILOVER_IMAGE": ""}
    with pytest.raises(SettingsError, match="SPOT_FAILOVER_ENGINE_COMMAND is missing"):
        Settings.from_environment(local)
    with pytest.raises(SettingsError, match="must name a program"):
        Settings.from_environment({**local, "SPOT_FAILOVER_ENGINE_COMMAND": "[]"})
    settings = Settings.from_environment({**local, "SPOT_FAILOVER_ENGINE_COMMAND": '["engine"]'})
    assert settings.engine_command == ("engine",)


def test_a_phases_limit_is_changed_without_touching_the_others() -> None:
    settings = Settings.from_environment({**ENVIRONMENT, "SPOT_FAILOVER_PHASE_LIMITS": '{"weights": 60}'})
    assert (settings.phase_limits[Phase.WEIGHTS], settings.phase_limits[Phase.IMAGE]) == (60, 900)


def test_environment_files_are_read_as_systemd_reads_them() -> None:
    text = """
# a comment
; another
A=bare value
B="with \\"quotes\\", \\\\ and $dollar"
C='{"json": ["as it is", "\\"]}'
not an assignment
  D = spaced
A=later wins
E=
"""
    assert parse_env_file(text) == {
        "A": "later wins",
        "B": 'with "quotes", \\ and $dollar',
        "C": '{"json": ["as it is", "\\"]}',
        "D": "spaced",
        "E": "",
    }


def test_operators_overrides_win_over_the_fleets_settings_and_the_environment_over_both(
    tmp_path: Path,
) -> None:
    (tmp_path / "node.env").write_text("A=fleet\nB=fleet\nC=fleet\n")
    (tmp_path / "local.env").write_text("B=local\nC=local\n")
    files = f"{tmp_path}/node.env:{tmp_path}/local.env:{tmp_path}/missing.env"
    found = effective_environment({"SPOT_FAILOVER_ENV_FILES": files, "C": "environment"})
    assert (found["A"], found["B"], found["C"]) == ("fleet", "local", "environment")


def test_a_node_picks_its_own_deadline_and_the_earlier_of_two() -> None:
    parameter = (
        "i-0aaaaaaaa@2026-11-23T13:40:00Z,i-0bbbbbbbb@2026-11-23T13:40:09Z,i-0bbbbbbbb@2026-11-23T13:40:05Z"
    )
    assert own_deadline(parameter, "i-0bbbbbbbb") == parse_utc("2026-11-23T13:40:05Z")
    with pytest.raises(ControlError, match="i-0cccccccc"):
        own_deadline(parameter, "i-0cccccccc")


def test_a_node_that_does_not_know_its_id_takes_the_earliest_deadline() -> None:
    parameter = "i-0aaaaaaaa@2026-11-23T13:40:09Z,i-0bbbbbbbb@2026-11-23T13:40:00Z"
    assert own_deadline(parameter, None) == parse_utc("2026-11-23T13:40:00Z")


@given(st.text())
def test_any_deadlines_are_read_or_refused(text: str) -> None:
    try:
        assert parse_deadlines(text)
    except ControlError:
        return


@given(st.integers(0, 4102444800000))
def test_times_survive_being_written_and_read(milliseconds: int) -> None:
    assert round(parse_utc(format_utc(milliseconds / 1000)) * 1000) == milliseconds


@pytest.mark.parametrize(
    "text", ["2026-11-23T13:40:00", "2026-11-23", "soon", "", "2026-11-23T13:40:00+01:00"]
)
def test_a_time_that_is_not_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a time in UTC"):
        parse_utc(text)


def test_a_state_that_is_said_again_with_another_reason_keeps_its_beginning() -> None:
    machine = StateMachine()
    since = machine.view().since
    assert machine.move(NodeState.STARTING, "the engine is starting") is NodeState.STARTING
    assert (machine.view().since, machine.view().reason) == (since, "the engine is starting")


def test_a_node_recovers_only_from_having_been_ready() -> None:
    machine = StateMachine()
    assert machine.move(NodeState.RECOVERING, "") is None
    for state in (NodeState.READY, NodeState.RECOVERING, NodeState.RECOVERING, NodeState.READY):
        assert machine.move(state, "") is not None
    assert machine.move(NodeState.STARTING, "") is None


def test_a_node_that_drains_or_failed_is_never_ready_again() -> None:
    for left in (NodeState.DRAINING, NodeState.FAILED):
        machine = StateMachine()
        assert machine.move(NodeState.READY, "") is NodeState.STARTING
        assert machine.move(left, "gone") is NodeState.READY
        for state in (NodeState.READY, NodeState.RECOVERING, NodeState.STARTING):
            assert machine.move(state, "") is None
        assert (machine.state, machine.view().reason) == (left, "gone")
