"""Reads the configuration from the CDK context, and checks it before anything is synthesized.

`docs/configuration.md` describes every key for operators. A wrong value raises `ConfigError`, whose text is
one sentence: what is wrong, where, and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from infra.config import AppConfig, ControlPlaneConfig, FleetConfig, ImageConfig
from infra.fields import ConfigError, Fields, shown
from infra.fleet_context import read_fleet
from infra.image_context import read_image

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
        boot_limit_seconds=fields.integer("boot_limit_seconds", default=1800, low=60, high=7200),
        incident_ttl_days=fields.integer("incident_ttl_days", default=30, low=1, high=3650),
        log_retention_days=fields.choice("log_retention_days", default=30, allowed=LOG_RETENTION_DAYS),
        alarm_topic_arn=fields.arn("alarm_topic_arn", service="sns"),
    )
    image = _image(fields.raw("image", default=None))
    entries = _fleet_entries(fields.raw("fleets", default=[]))
    fields.nothing_else()
    fleets = tuple(
        read_fleet(entry, where=f"fleets[{index}]", control_plane=control_plane, image=image)
        for index, entry in enumerate(entries)
    )
    _refuse_duplicates(fleets)
    return AppConfig(control_plane=control_plane, image=image, fleets=fleets)


def _image(value: Any) -> ImageConfig | None:
    value = _parsed("image", value, like='an object like \'{"name": "vllm"}\'')
    return None if value is None else read_image(value)


def _fleet_entries(value: Any) -> list[Any]:
    value = _parsed("fleets", value, like='a list like \'[{"name": "chat"}]\'')
    if not isinstance(value, list):
        raise ConfigError(f"fleets is {shown(value)}; allowed: a list of fleets.")
    return value


def _parsed(key: str, value: Any, *, like: str) -> Any:
    """Take what cdk.json gives, or the JSON text of `-c key='...'`, which arrives as a string."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as err:
        raise ConfigError(f"{key} is not valid JSON ({err}); allowed: {like}.") from err


def _refuse_duplicates(fleets: tuple[FleetConfig, ...]) -> None:
    first_seen: dict[str, int] = {}
    for index, fleet in enumerate(fleets):
        if fleet.name in first_seen:
            raise ConfigError(
                f"fleets[{first_seen[fleet.name]}] and fleets[{index}] are both named"
                f" {json.dumps(fleet.name)}; allowed: each name once."
            )
        first_seen[fleet.name] = index
