"""What is answered for a node that is no process."""

from __future__ import annotations

import ipaddress
import json
from datetime import datetime

from spot_failover.outcomes import Outcome
from track_incident.drain_report import parse_drain_report

from local_aws.nodes import bare

NODE, OTHER = "i-0123456789abcdef0", "i-0fedcba9876543210"
SCRIPT = (
    f"exec spot-failover-node drain --deadlines '{OTHER}@2026-11-23T13:40:00Z,{NODE}@2026-11-23T13:40:07Z'\n"
)


def test_drain_is_told_from_any_other_command() -> None:
    assert bare.is_drain(SCRIPT)
    assert not bare.is_drain("echo hello\n")


def test_each_node_finds_its_own_deadline_in_a_command_for_many() -> None:
    assert bare.deadline_in(SCRIPT, NODE) == datetime.fromisoformat("2026-11-23T13:40:07Z").timestamp()
    assert bare.deadline_in(SCRIPT, "i-00000000000000000") is None


def test_report_is_one_that_the_control_plane_believes() -> None:
    text = bare.drain_report(SCRIPT, NODE, started_at=1_795_400_000.0, finished_at=1_795_400_000.25)
    report = parse_drain_report(text)
    assert report is not None
    assert report.outcome is Outcome.DRAINED
    assert report.detail["cut"] == 0
    assert report.detail["seconds"] == 0.25
    assert json.loads(text)["deadline"] == "2026-11-23T13:40:07.000Z"


def test_drain_without_a_deadline_has_the_notices_own() -> None:
    text = bare.drain_report("spot-failover-node drain", NODE, started_at=0.0, finished_at=0.0)
    assert json.loads(text)["deadline"] == "1970-01-01T00:02:00.000Z"


def test_addresses_are_nobodys_and_do_not_repeat() -> None:
    addresses = [bare.address(number) for number in (1, 255, 256, 65_535, 65_536, 200_000)]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(each) in ipaddress.ip_network("100.64.0.0/10") for each in addresses)
