"""Functions run as in Lambda: their bundle, environment, timeout and process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_function_sees_its_own_environment_and_role_and_not_ours(bench: Any) -> None:
    source = """
import os, boto3
def handler(event, context):
    return {
        "own": os.environ["COLOUR"], "name": context.function_name,
        "home": os.environ.get("HOME"),
        "who": boto3.client("sts").get_caller_identity()["Arn"],
        "left": context.get_remaining_time_in_millis(),
    }
"""
    bench.function("environment", source, Environment={"Variables": {"COLOUR": "green"}}, Timeout=7)
    payload, error = bench.invoke("environment")
    assert error is None
    assert payload["own"] == "green"
    assert payload["name"] == "environment"
    assert payload["home"] is None
    assert payload["who"].endswith(":assumed-role/environment-role/environment")
    assert 5000 < payload["left"] <= 7000


def test_second_invocation_finds_the_warm_process_of_the_first(bench: Any) -> None:
    bench.function("warm", "import os\ndef handler(event, context): return os.getpid()\n")
    assert bench.invoke("warm") == bench.invoke("warm")
    first, second = [e for e in bench.aws.control.timeline() if e.get("name") == "warm"]
    assert first["init_seconds"] > 0
    assert second["init_seconds"] is None
    assert second["seconds"] < 0.5


def test_changed_configuration_starts_a_fresh_process(bench: Any) -> None:
    bench.function("changed", "import os\ndef handler(event, context): return os.environ.get('X')\n")
    assert bench.invoke("changed") == (None, None)
    bench.aws.client("lambda").update_function_configuration(
        FunctionName="changed", Environment={"Variables": {"X": "1"}}
    )
    assert bench.invoke("changed") == ("1", None)


def test_function_is_killed_at_its_timeout_with_all_it_started(bench: Any) -> None:
    source = """
import subprocess, time
def handler(event, context):
    print(subprocess.Popen(["sleep", "61.25"]).pid)
    time.sleep(60)
"""
    bench.function("slow", source, Timeout=1)
    payload, error = bench.invoke("slow")
    assert error == "Unhandled"
    assert "Task timed out after 1.00 seconds" in payload["errorMessage"]
    child = int(bench.aws.control.function_log("slow")[0]["text"])
    assert not _runs(child)


def test_function_that_kills_its_process_is_an_error_and_the_next_one_works(bench: Any) -> None:
    bench.function("dying", "import os\ndef handler(event, context): return os._exit(3) if event else 1\n")
    payload, error = bench.invoke("dying", {"die": True})
    assert (payload["errorType"], error) == ("Runtime.ExitError", "Unhandled")
    assert "exit status 3" in payload["errorMessage"]
    assert bench.invoke("dying") == (1, None)


def test_module_missing_from_the_bundle_is_missing_although_this_machine_has_it(bench: Any) -> None:
    bench.function("incomplete", "import aiohttp\ndef handler(event, context): return 1\n")
    payload, error = bench.invoke("incomplete")
    assert error == "Unhandled"
    assert payload["errorType"] == "Runtime.ImportModuleError"
    assert "aiohttp" in payload["errorMessage"]


def test_log_lines_carry_the_request_and_are_parsed(bench: Any) -> None:
    source = """
import json, sys
def handler(event, context):
    print(json.dumps({"_aws": {"CloudWatchMetrics": []}, "count": 1}))
    print("plain", file=sys.stderr)
    raise ValueError("on purpose")
"""
    bench.function("talkative", source)
    assert bench.invoke("talkative")[1] == "Unhandled"
    log = bench.aws.control.function_log("talkative")
    request = next(e for e in bench.aws.control.timeline() if e.get("name") == "talkative")["request_id"]
    assert log[0]["json"] == {"_aws": {"CloudWatchMetrics": []}, "count": 1}
    assert log[1]["text"] == "plain"
    assert any("on purpose" in line["text"] for line in log)
    assert {line["request_id"] for line in log} == {request}


def test_role_that_does_not_trust_lambda_runs_nothing(bench: Any) -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    bench.function("foreign", "def handler(event, context): return 1\n", role=bench.role("f", trust=trust))
    with pytest.raises(Exception, match=r"does not let lambda\.amazonaws\.com assume it"):
        bench.invoke("foreign")


def test_reserved_concurrency_of_none_lets_nothing_run(bench: Any) -> None:
    bench.function("stopped", "def handler(event, context): return 1\n")
    bench.aws.client("lambda").put_function_concurrency(
        FunctionName="stopped", ReservedConcurrentExecutions=0
    )
    with pytest.raises(Exception, match="TooManyRequestsException"):
        bench.invoke("stopped")


def test_log_of_an_unknown_function_names_the_known_ones(bench: Any) -> None:
    bench.function("known", "def handler(event, context): return 1\n")
    with pytest.raises(Exception, match="known"):
        bench.aws.control.function_log("nobody")


def _runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()  # a zombie waits for its new parent
