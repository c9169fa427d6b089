"""Fixtures of the functions' tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from moto import mock_aws

# Read by Powertools when its logger is made, that is at the first import of the code under test.
os.environ |= {"POWERTOOLS_SERVICE_NAME": "unit", "POWERTOOLS_LOG_LEVEL": "INFO"}

from tests.unit.lambdas.fake_aws import NOTICED, Aws, sample_event


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Aws()


@pytest.fixture
def notice_event() -> Callable[..., dict[str, Any]]:
    """Make an interruption notice, AWS's own sample with another instance and time."""
    sample = sample_event("ec2_spot_interruption_warning")

    def make(instance_id: str, *, at: datetime = NOTICED) -> dict[str, Any]:
        detail = {**sample["detail"], "instance-id": instance_id}
        return {**sample, "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "detail": detail}

    return make


@pytest.fixture
def sample() -> Callable[[str], dict[str, Any]]:
    return sample_event


@pytest.fixture
def noticed_at() -> datetime:
    return NOTICED


@pytest.fixture
def metrics(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[tuple[str, str], list[float]]]:
    """Read what was printed since the last call as metrics: values by (fleet, name)."""

    def read() -> dict[tuple[str, str], list[float]]:
        found: dict[tuple[str, str], list[float]] = {}
        for line in capsys.readouterr().out.splitlines():
            document = json.loads(line) if line.startswith("{") else {}
            for definition in document.get("_aws", {}).get("CloudWatchMetrics", []):
                assert definition["Namespace"] == "SpotFailover"
                assert definition["Dimensions"] == [["fleet"]]
                for metric in definition["Metrics"]:
                    key = (document["fleet"], metric["Name"])
                    found.setdefault(key, []).extend(document[metric["Name"]])
        return found

    return read
