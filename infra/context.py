"""Reads the configuration from the CDK context, and checks it before anything is synthesized.

`docs/configuration.md` describes every key for operators. A wrong value raises `ConfigError`, whose text is
one sentence: what is wrong, where, and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from infra.config import AppConfig, ControlPlaneConfig, FleetConfig
from infra.fields import ConfigError, Fields, shown
from infra.fleet_context import read_fleet

# The CDK's own keys hold a colon, a slash or a dash (`@aws-cdk/...`, `cli-telemetry`); ours never do.
_OUR_KEYS = re.compile(r"[a-z0-9_]+", re.IGNORECASE)
# The values CloudWatch Logs accepts that make sense here.
LOG_RETENTION_DAYS = (1, 3, 7, 14, 30, 90, 180, 365, 731)


def app_config(context: Mapping[str, Any]) -> AppConfig:
    """Read the whole configuration from the CDK context; raises `ConfigError`."""
    ours = {key: value for key, value in context.items() if _OUR_KEYS.fullmatch(key)}
    fields = Fields(ours, where="the context")
    control_plane = ControlPlaneConfig(
        notice_seconds=fields.integer("notice_seconds", default=120, low=10, high=120),
        incident_ttl_days=fields.integer("incident_ttl_days", default=30, low=1, high=3650),
        log_retention_days=fields.choice("log_retention_days", default=30, allowed=LOG_RETENTION_DAYS),
        alarm_topic_arn=fields.arn("alarm_topic_arn", service="sns"),
    )
    entries = _fleet_entries(fields.raw("fleets", default=[]))
    fields.nothing_else()
    fleets = tuple(
        read_fleet(entry, where=f"fleets[{index}]", control_plane=control_plane)
        for index, entry in enumerate(entries)
    )
    _refuse_duplicates(fleets)
    return AppConfig(control_plane=control_plane, fleets=fleets)


def _fleet_entries(value: Any) -> list[Any]:
    """Take the list from cdk.json, or the JSON text of `-c fleets='[...]'`, which arrives as a string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as err:
            raise ConfigError(
                f'fleets is not valid JSON ({err}); allowed: a list like \'[{{"name": "chat"}}]\'.'
            ) from err
    if not isinstance(value, list):
        raise ConfigError(f"fleets is {shown(value)}; allowed: a list of fleets.")
    return value


def _refuse_duplicates(fleets: tuple[FleetConfig, ...]) -> None:
    first_seen: dict[str, int] = {}
    for index, fleet in enumerate(fleets):
        if fleet.name in first_seen:
            raise ConfigError(
                f"fleets[{first_seen[fleet.name]}] and fleets[{index}] are both named"
                f" {json.dumps(fleet.name)}; allowed: each name once."
            )
        first_seen[fleet.name] = index
