"""Settings are read once; what is missing or senseless fails the cold start with its name."""

from __future__ import annotations

import importlib
import sys
from datetime import timedelta

import pytest
from spot_failover.errors import SettingsError
from spot_failover.settings import DrainSettings, Settings, TrackSettings

SHARED = {
    "FLEET_TAG_KEY": "spot-failover:fleet",
    "INCIDENTS_TABLE": "incidents",
    "INCIDENT_TTL_DAYS": "90",
    "NOTICE_SECONDS": "120",
    "QUEUE_URL": "https://queue",
    "DEAD_LETTER_QUEUE_URL": "https://dead",
    "POWERTOOLS_SERVICE_NAME": "function",
    "POWERTOOLS_METRICS_NAMESPACE": "SpotFailover",
}
OWN = {
    "deregister_target": ("HOLD_RESERVE_SECONDS", "25"),
    "drain_node": ("DRAIN_DOCUMENT", "own"),
    "track_incident": ("INCIDENTS_FLEET_INDEX", "own"),
}
FUNCTIONS = ("deregister_target", "drain_node", "request_replacement", "track_incident")


def test_settings_are_read_with_their_types() -> None:
    settings = Settings.from_environment(SHARED)
    assert settings.notice == timedelta(seconds=120)
    assert settings.incident_ttl == timedelta(days=90)
    assert settings.queue_url == "https://queue"
    assert DrainSettings.from_environment(SHARED | {"DRAIN_DOCUMENT": "d"}).drain_document == "d"
    assert (
        TrackSettings.from_environment(SHARED | {"INCIDENTS_FLEET_INDEX": "i"}).incidents_fleet_index == "i"
    )


@pytest.mark.parametrize("name", ["NOTICE_SECONDS", "INCIDENT_TTL_DAYS"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", "²", "1e3"])
def test_a_number_that_is_none_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment(SHARED | {name: value})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_missing_setting_fails_the_cold_start_by_name(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = SHARED | {"AWS_DEFAULT_REGION": "us-east-1"}
    if function in OWN:
        environment |= dict([OWN[function]])
    required = environment.keys() - {"AWS_DEFAULT_REGION"}
    for missing in required:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(missing, " ")
        monkeypatch.delitem(sys.modules, f"{function}.handler", raising=False)
        with pytest.raises(SettingsError, match=missing):
            importlib.import_module(f"{function}.handler")
    monkeypatch.setenv(missing, environment[missing])
    assert callable(importlib.import_module(f"{function}.handler").handler)
    monkeypatch.delitem(sys.modules, f"{function}.handler")
