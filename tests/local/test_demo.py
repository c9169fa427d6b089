"""The demo itself, as an operator runs it: one command, its exit status, its report and its picture."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILLED = (
    "instance_id",
    "noticed_at",
    "deadline",
    "deregistered_at",
    "drain_requested_at",
    "drain_started_at",
    "drained_at",
    "in_flight_at_notice",
    "cut_requests",
    "replacement_requested_at",
    "replacement_instance_id",
    "replacement_launched_at",
    "replacement_in_service_at",
    "recovery_seconds",
    "capacity_gap_seconds",
    "engine_start_seconds",
    "boot",
    "recovery_parts",
)
PHASES = ["kernel", "user_data", "image", "weights", "compile_cache", "engine", "warm_up", "in_service"]


def play(out: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Run the demo; fail with all that it printed unless it says that the promise was kept."""
    done = subprocess.run(
        [sys.executable, "-m", "local_aws.demo", "--out", str(out), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=590,  # under the test's own limit, so that what was printed is shown
        check=False,
    )
    assert done.returncode == 0, done.stdout
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report, done.stdout


def check_report(report: dict[str, Any], *, interruptions: int, notice_seconds: int) -> None:
    """Check what holds for every run that kept the promise, from the figures and not from its verdict."""
    assert report["passed"] is True
    assert {check["result"] for check in report["checks"]} <= {"passed", "not_judged"}
    requests = report["requests"]
    assert requests["failed"] == 0
    assert requests["succeeded"] == requests["total"] >= 10
    assert requests["attempts"] >= requests["total"] + requests["retried"]
    assert all(count > 0 for count in requests["by_kind"].values())
    assert len(report["interruptions"]) == interruptions
    for each in report["interruptions"]:
        assert [name for name in FILLED if each[name] is None] == []
        assert each["in_flight_at_notice"] >= 1
        assert each["cut_requests"] == 0
        assert each["capacity_restored"] is True
        assert 0 < each["capacity_gap_seconds"] < notice_seconds
        phases = {phase["name"]: phase for phase in each["boot"]["phases"]}
        assert sorted(phases) == sorted(PHASES)
        assert all(phase["ended"] for phase in phases.values())
        assert sum(each["boot"]["path"].values()) >= each["boot"]["ready_seconds"] > 0
        assert sum(each["recovery_parts"].values()) == pytest.approx(each["recovery_seconds"], abs=1.0)
        noticed = datetime.fromisoformat(each["noticed_at"])
        for action in ("deregistered_at", "drain_requested_at", "replacement_requested_at"):
            assert 0 <= (datetime.fromisoformat(each[action]) - noticed).total_seconds() <= 2.0
        assert datetime.fromisoformat(each["drained_at"]) < datetime.fromisoformat(each["deadline"])
    replaced = {each["instance_id"]: each["replacement_instance_id"] for each in report["interruptions"]}
    assert len(set(replaced.values())) == interruptions
    assert not any(leaving == coming for leaving, coming in replaced.items())


def check_picture(path: Path) -> None:
    """Check that it is a PNG of some size; what it shows is for eyes."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 20_000


def test_demo_with_the_emulated_engine_fills_every_field_and_says_what_it_is(tmp_path: Path) -> None:
    report, printed = play(tmp_path, "--engine", "emulated", "--interruptions", "1", "--notice-seconds", "60")
    check_report(report, interruptions=1, notice_seconds=60)
    check_picture(tmp_path / "timeline.png")
    assert report["engine"]["kind"] == "emulated"
    assert "EMULATED" in report["engine"]["name"]
    assert "EMULATED" in printed
    unjudged = [check["name"] for check in report["checks"] if check["result"] == "not_judged"]
    assert len(unjudged) == 2
    assert all("bare start" in name for name in unjudged)


@pytest.mark.real_engine
def test_demo_with_real_vllm_keeps_the_whole_promise(tmp_path: Path) -> None:
    report, _ = play(tmp_path, "--engine", "real", "--interruptions", "2")
    check_report(report, interruptions=2, notice_seconds=120)
    check_picture(tmp_path / "timeline.png")
    assert report["engine"] == {
        "kind": "real",
        "name": "vLLM, CPU build",
        "version": (ROOT / "gpu_node_bootstrap" / "vllm_version.txt").read_text().strip(),
        "model": "tiny",
    }
    for each in report["interruptions"]:
        baseline = min(report["engine_bare_start_seconds"], each["engine_start_seconds"])
        assert each["recovery_seconds"] <= 1.25 * baseline
        assert each["boot"]["ready_seconds"] <= 1.10 * baseline
    assert {check["result"] for check in report["checks"]} == {"passed"}
