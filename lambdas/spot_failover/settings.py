"""The functions' settings: typed, read once from the environment at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from spot_failover.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every function needs. Names in the environment are the fields' names in capitals."""

    fleet_tag_key: str
    incidents_table: str
    incident_ttl: timedelta  # INCIDENT_TTL_DAYS
    notice: timedelta  # NOTICE_SECONDS: how long a node lives after its notice
    queue_url: str
    dead_letter_queue_url: str
    service: str  # POWERTOOLS_SERVICE_NAME
    metrics_namespace: str  # POWERTOOLS_METRICS_NAMESPACE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read and check all settings.

        Raises SettingsError with the variable's name when one is missing, empty or no positive whole number.
        """
        return cls(**_shared(environment))


@dataclass(frozen=True, kw_only=True)
class DeregisterSettings(Settings):
    """`deregister_target` also knows until when a last node stays."""

    hold_reserve: timedelta  # HOLD_RESERVE_SECONDS: so long before its deadline it leaves in any case

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """As `Settings.from_environment`, with HOLD_RESERVE_SECONDS."""
        reserve = timedelta(seconds=_positive(environment, "HOLD_RESERVE_SECONDS"))
        return cls(hold_reserve=reserve, **_shared(environment))


@dataclass(frozen=True, kw_only=True)
class DrainSettings(Settings):
    """`drain_node` also names the Run Command document."""

    drain_document: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """As `Settings.from_environment`, with DRAIN_DOCUMENT."""
        return cls(drain_document=_text(environment, "DRAIN_DOCUMENT"), **_shared(environment))


@dataclass(frozen=True, kw_only=True)
class TrackSettings(Settings):
    """`track_incident` also reads the incidents of a fleet."""

    incidents_fleet_index: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """As `Settings.from_environment`, with INCIDENTS_FLEET_INDEX."""
        index = _text(environment, "INCIDENTS_FLEET_INDEX")
        return cls(incidents_fleet_index=index, **_shared(environment))


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """`sweep_incidents` has no queue; it reads incidents by two indexes, and knows how long to wait."""

    fleet_tag_key: str
    incidents_table: str
    incidents_fleet_index: str
    incidents_open_index: str
    incident_ttl: timedelta  # INCIDENT_TTL_DAYS
    grace: timedelta  # GRACE_SECONDS: after a deadline, for what is told late
    boot_limit: timedelta  # BOOT_LIMIT_SECONDS: how long a replacement may take to become ready
    service: str  # POWERTOOLS_SERVICE_NAME
    metrics_namespace: str  # POWERTOOLS_METRICS_NAMESPACE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """As `Settings.from_environment`."""
        return cls(
            incidents_fleet_index=_text(environment, "INCIDENTS_FLEET_INDEX"),
            incidents_open_index=_text(environment, "INCIDENTS_OPEN_INDEX"),
            grace=timedelta(seconds=_positive(environment, "GRACE_SECONDS")),
            boot_limit=timedelta(seconds=_positive(environment, "BOOT_LIMIT_SECONDS")),
            **_common(environment),
        )


def _common(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        "fleet_tag_key": _text(environment, "FLEET_TAG_KEY"),
        "incidents_table": _text(environment, "INCIDENTS_TABLE"),
        "incident_ttl": timedelta(days=_positive(environment, "INCIDENT_TTL_DAYS")),
        "service": _text(environment, "POWERTOOLS_SERVICE_NAME"),
        "metrics_namespace": _text(environment, "POWERTOOLS_METRICS_NAMESPACE"),
    }


def _shared(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        **_common(environment),
        "notice": timedelta(seconds=_positive(environment, "NOTICE_SECONDS")),
        "queue_url": _text(environment, "QUEUE_URL"),
        "dead_letter_queue_url": _text(environment, "DEAD_LETTER_QUEUE_URL"),
    }


def _text(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise SettingsError(f"the environment variable {name} is not set")
    return value


def _positive(environment: Mapping[str, str], name: str) -> int:
    text = _text(environment, name)
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise SettingsError(f"the environment variable {name} is {text!r}, not a positive whole number")
    return int(text)
