"""The threat model claims nothing that no test holds."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/threat-model.md"
REFERENCE = re.compile(r"\[`(test_\w+)`\]\(([^)]+)\)")


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = REFERENCE.findall(DOCUMENT.read_text())
    assert len(named) > 20
    missing = [
        (name, path) for name, path in named if f"def {name}(" not in (DOCUMENT.parent / path).read_text()
    ]
    assert missing == []


def test_every_line_that_names_a_guard_names_its_test() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    claims = [row for row in rows if not row.startswith(("| could |", "| --- |"))]
    untested = [row for row in claims if "| nothing:" not in row and not REFERENCE.search(row)]
    assert untested == []
