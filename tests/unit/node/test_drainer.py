"""A drain's end: everything of the engine is killed, once, unless the first time left something."""

from __future__ import annotations

import io
import time
from unittest import mock

import pytest

from gpu_node_bootstrap.node_agent.drain import EngineExit, Trigger
from gpu_node_bootstrap.node_agent.drainer import Drainer
from gpu_node_bootstrap.node_agent.engine_life import EngineLife
from gpu_node_bootstrap.node_agent.errors import EngineError
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.settings import Settings
from gpu_node_bootstrap.node_agent.vllm_api import EngineApi, Load

SETTINGS = Settings.from_environment(
    {
        "SPOT_FAILOVER_FLEET": "chat",
        "SPOT_FAILOVER_REGION": "eu-west-1",
        "SPOT_FAILOVER_ASG_NAME": "spot-failover-chat",
        "SPOT_FAILOVER_ENGINE": "process",
        "SPOT_FAILOVER_ENGINE_COMMAND": '["engine"]',
        "SPOT_FAILOVER_SERVED_MODEL_NAME": "tiny",
        "SPOT_FAILOVER_SETTLE_SECONDS": "0",
    }
)


@pytest.mark.parametrize(
    ("ready", "kills", "expected", "rounds"),
    [
        (True, [None], EngineExit.GRACEFUL, 1),
        (False, [None], EngineExit.KILLED, 1),
        (False, [EngineError("still there"), None], EngineExit.KILLED, 2),
    ],
)
def test_a_drain_kills_what_is_left_and_takes_no_second_round_for_nothing(
    ready: bool, kills: list[Exception | None], expected: EngineExit, rounds: int
) -> None:
    life, api = (
        mock.create_autospec(EngineLife, instance=True),
        mock.create_autospec(EngineApi, instance=True),
    )
    api.load.return_value = Load(running=0, waiting=0, finished=3)
    life.alive.side_effect = lambda: not life.terminate.called
    life.exit_status.return_value = 0
    life.kill.side_effect = kills
    drainer = Drainer(
        life=life,
        api=api,
        settings=SETTINGS,
        checked_at=lambda: None,
        on_begin=lambda _reason: ready,
        on_end=lambda _outcome: None,
        instance_id=lambda: "i-0123456789abcdef0",
        log=Log(stream=io.StringIO()),
    )
    drainer.request(Trigger.IMDS, time.time() + 120)
    outcome = drainer.wait(timeout_seconds=10)
    assert outcome is not None
    assert outcome.engine_exit is expected
    assert life.kill.call_count == rounds
