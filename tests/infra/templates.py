"""A synthesized template, read the way a test asks about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PSEUDO_PARAMETERS = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclass(frozen=True)
class Template:
    """One stack's template."""

    path: Path
    body: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Template:
        return cls(path, json.loads(path.read_text(encoding="utf-8")))

    def resources(self, resource_type: str) -> dict[str, Any]:
        """Return the properties of all resources of a type, by logical id."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.body["Resources"].items()
            if resource["Type"] == resource_type
        }

    def only(self, resource_type: str) -> Any:
        """Return the properties of the one resource of a type."""
        found = self.resources(resource_type)
        assert len(found) == 1, f"{resource_type}: {sorted(found)}"
        return next(iter(found.values()))

    def text(self, value: Any) -> str:
        """Return a value as one text; references to other resources read `<LogicalId.Attribute>`."""
        match value:
            case str():
                return value
            case {"Ref": name}:
                return PSEUDO_PARAMETERS.get(name, f"<{name}>")
            case {"Fn::GetAtt": [name, attribute]}:
                return f"<{name}.{attribute}>"
            case {"Fn::Join": [separator, parts]}:
                return str(separator).join(self.text(part) for part in parts)
            case {"Fn::Sub": str(text)}:
                for name, filled in PSEUDO_PARAMETERS.items():
                    text = text.replace(f"${{{name}}}", filled)
                return text
            case {"Fn::Base64": inner}:
                return self.text(inner)
        raise AssertionError(f"not a text: {value!r}")

    def statements(self, role: str) -> list[Statement]:
        """Return the statements that a role's own policies hold, inline or attached."""
        policies = [
            p["PolicyDocument"] for p in self.body["Resources"][role]["Properties"].get("Policies", [])
        ]
        for policy in self.resources("AWS::IAM::Policy").values():
            if {"Ref": role} in policy["Roles"]:
                policies.append(policy["PolicyDocument"])
        return [Statement.of(self, raw) for policy in policies for raw in policy["Statement"]]


@dataclass(frozen=True)
class Statement:
    """One statement of a policy, its lists as lists."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Any]

    @classmethod
    def of(cls, template: Template, raw: Mapping[str, Any]) -> Statement:
        return cls(
            effect=raw["Effect"],
            actions=tuple(_list(raw["Action"])),
            resources=tuple(template.text(resource) for resource in _list(raw["Resource"])),
            conditions=raw.get("Condition", {}),
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
