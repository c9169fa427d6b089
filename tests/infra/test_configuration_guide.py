"""The operator's guide knows every key, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from infra.context import app_config
from infra.fields import ConfigError

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
EXISTING_VPC = {
    "id": "vpc-0123456789abcdef0",
    "availability_zones": ["us-east-1a", "us-east-1b"],
    "node_subnet_ids": ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2"],
}
OBJECTS: dict[str, dict[str, Any]] = {
    "Control plane": {"nonsense": 1},
    "A fleet": {"fleets": [{"name": "chat", "nonsense": 1}]},
    "`vpc`: a new one": {"fleets": [{"name": "chat", "vpc": {"nonsense": 1}}]},
    "`vpc`: an existing one": {"fleets": [{"name": "chat", "vpc": {**EXISTING_VPC, "nonsense": 1}}]},
    "`weights`": {"fleets": [{"name": "chat", "weights": {"uri": "s3://our-models/chat", "nonsense": 1}}]},
    "The image pipeline": {"image": {"nonsense": 1}},
    "`image.vpc`": {
        "image": {
            "vpc": {
                "subnet_id": "subnet-0aaaaaaaaaaaaaaa1",
                "security_group_ids": ["sg-0aaaaaaaaaaaaaaa1"],
                "nonsense": 1,
            }
        }
    },
    "`load_balancer`": {"fleets": [{"name": "chat", "load_balancer": {"nonsense": 1}}]},
}


@pytest.mark.parametrize(("heading", "context"), OBJECTS.items(), ids=OBJECTS)
def test_the_guide_names_the_keys_that_are_allowed(heading: str, context: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r'unknown key "nonsense"') as raised:
        app_config(context)
    allowed = str(raised.value).rsplit("allowed: ", 1)[1].rstrip(".").split(", ")
    section = re.split(rf"^#+ {re.escape(heading)}$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[
        1
    ]
    rows = re.findall(r"^\| `(\w+)` \|", re.split(r"^#", section, flags=re.MULTILINE)[0], flags=re.MULTILINE)
    assert sorted(rows) == sorted(set(allowed) - ({"id"} if heading == "`vpc`: a new one" else set()))
