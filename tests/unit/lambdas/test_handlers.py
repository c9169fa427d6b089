"""The handlers as Lambda loads them: wired to their own queue, and made of nothing the bundle lacks."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.lambdas.fake_aws import TAG, Aws, sample_event

LAMBDAS = Path(__file__).parents[3] / "lambdas"
FUNCTIONS = ("deregister_target", "drain_node", "request_replacement", "track_incident")
CONTEXT = SimpleNamespace(
    function_name="function",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:function",
    aws_request_id="52fdfc07-2182-154f-163f-5f0f9a621d72",
)
FOREIGN = {
    **dict.fromkeys(FUNCTIONS[:3], sample_event("ec2_spot_interruption_warning")),
    "track_incident": sample_event("asg_launch_successful"),
}


@pytest.fixture
def load(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    environment = {
        "FLEET_TAG_KEY": TAG,
        "INCIDENTS_TABLE": "incidents",
        "INCIDENT_TTL_DAYS": "90",
        "NOTICE_SECONDS": "120",
        "QUEUE_URL": aws.settings.queue_url,
        "DEAD_LETTER_QUEUE_URL": aws.settings.dead_letter_queue_url,
        "POWERTOOLS_SERVICE_NAME": "function",
        "POWERTOOLS_METRICS_NAMESPACE": "SpotFailover",
        "DRAIN_DOCUMENT": "SpotFailover-DrainNode",
        "HOLD_RESERVE_SECONDS": "25",
        "INCIDENTS_FLEET_INDEX": "by_fleet",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def load_handler(function: str) -> Any:
        monkeypatch.delitem(sys.modules, f"{function}.handler", raising=False)
        return importlib.import_module(f"{function}.handler").handler

    return load_handler


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_handler_drops_the_foreign_and_buries_the_malformed(
    aws: Aws, load: Callable[[str], Any], function: str
) -> None:
    bodies = [json.dumps(FOREIGN[function]), "what?"]
    records = [
        {
            "messageId": body[:9],
            "receiptHandle": "r",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1"},
        }
        for body in bodies
    ]
    assert load(function)({"Records": records}, CONTEXT) == {"batchItemFailures": []}
    assert aws.dead_letters() == [("what?", "malformed: not JSON: JSONDecodeError")]


@pytest.mark.parametrize("function", [*FUNCTIONS, "sweep_incidents"])
def test_a_handler_is_thin(function: str) -> None:
    assert len((LAMBDAS / function / "handler.py").read_text().splitlines()) < 60


def test_the_code_imports_only_what_the_bundle_and_lambda_bring() -> None:
    brought = {"boto3", "botocore", "aws_lambda_powertools", "spot_failover", "sweep_incidents", *FUNCTIONS}
    foreign = {
        (path.name, name)
        for path in LAMBDAS.rglob("*.py")
        for name in _runtime_imports(ast.parse(path.read_text()))
        if name not in brought | sys.stdlib_module_names
    }
    assert foreign == set()


def _runtime_imports(tree: ast.AST) -> set[str]:
    """Return the top-level packages imported when the code runs, not only when it is type-checked."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
        names |= _runtime_imports(node)
    return names
