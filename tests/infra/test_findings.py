"""cdk-nag and cfn-lint find nothing, and would find something if there was something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.templates import REPOSITORY


def test_cdk_nag_finds_nothing_that_is_not_acknowledged(assembly: Path) -> None:
    report = json.loads((assembly / "validation-report.json").read_text(encoding="utf-8"))
    assert [entry for entry in report["pluginReports"] if entry["conclusion"] != "success"] == []


def test_cdk_nag_stops_a_synthesis_for_a_finding(tmp_path: Path) -> None:
    from aws_cdk import App, Stack  # noqa: PLC0415 (importing the CDK takes seconds)
    from aws_cdk import aws_sqs as sqs  # noqa: PLC0415

    from infra import nag  # noqa: PLC0415

    app = App(outdir=str(tmp_path))
    sqs.Queue(Stack(app, "Careless"), "Queue")
    nag.check(app)
    with pytest.raises(RuntimeError, match="does not require requests to use SSL"):
        app.synth()
    assert "AwsSolutions-SQS4" in (tmp_path / "validation-report.json").read_text(encoding="utf-8")


def test_cfn_lint_finds_nothing(assembly: Path) -> None:
    templates = [str(path) for path in sorted(assembly.glob("*.template.json"))]
    assert len(templates) == 5
    done = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--", *templates],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert (done.returncode, done.stdout) == (0, "")
