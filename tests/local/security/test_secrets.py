"""No secret in a function's environment, in what it logs, in what it records, or in its dead letters."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from tests.local.faults.matrix import SERVER_ERROR
from tests.local.faults.plane import FUNCTIONS, NOTICE_FUNCTIONS, Plane
from tests.local.faults.playing import Case, nodes_of

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Settings of the functions, all of them; a further one is to be looked at before it is added here.
SETTINGS = {
    "DEAD_LETTER_QUEUE_URL",
    "DRAIN_DOCUMENT",
    "BOOT_LIMIT_SECONDS",
    "FLEET_TAG_KEY",
    "GRACE_SECONDS",
    "HOLD_RESERVE_SECONDS",
    "INCIDENTS_FLEET_INDEX",
    "INCIDENTS_OPEN_INDEX",
    "INCIDENTS_TABLE",
    "INCIDENT_TTL_DAYS",
    "NOTICE_SECONDS",
    "POWERTOOLS_LOG_LEVEL",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_SERVICE_NAME",
    "QUEUE_URL",
}
SECRETIVE = re.compile(
    r"(?i)\b(AKIA|ASIA)[A-Z0-9]{12,}|secret|passw|token|private.key|hf_[a-z0-9]{8,}|://[^/\s:]+:[^/\s]+@"
)
# Whatever signs a request, as it would stand in a log of requests.
SIGNATURES = ("Authorization:", "Credential=", "X-Amz-Security-Token", "Signature=")


def test_a_functions_environment_holds_settings_and_no_secret(plane: Plane) -> None:
    for configuration in plane.aws.client("lambda").list_functions()["Functions"]:
        if not configuration["FunctionName"].startswith("spot-failover-"):
            continue
        variables = configuration["Environment"]["Variables"]
        assert set(variables) <= SETTINGS, configuration["FunctionName"]
        assert not [value for value in variables.values() if SECRETIVE.search(value)]


def test_the_search_for_secrets_finds_some() -> None:
    for secret in ("ASIAIOSFODNN7EXAMPLE", "https://user:word@host/", "db_password=x", "hf_abcdefghij"):
        assert SECRETIVE.search(secret)


@pytest.mark.parametrize("function", NOTICE_FUNCTIONS)
def test_nothing_that_a_function_writes_holds_its_credentials(plane: Plane, function: str) -> None:
    """Through a success, calls that fail in every way, a crash of its own, and messages that are none."""
    with Case(plane, function) as case:
        nodes = [node for _, node in nodes_of(plane, function)]
        bodies = [plane.notice(node) for node in nodes]
        inject = partial(plane.aws.control.inject_fault, role=None)
        inject("ec2:DescribeInstances", lost=True, count=2)
        inject("*:*", "InternalFailure", count=SERVER_ERROR.calls, spared=4)
        case.driver.send(*bodies, "{}", '{"detail": {"instance-id": "x"}}')
        case.driver.run(case.delivered, crash_after=[None, 2])
        inject("*:*", "AccessDeniedException", spared=1)
        case.driver.send(plane.notice(nodes[0]))
        case.driver.run(case.delivered)
        seen = case.look()
        assert {invocation.ended for invocation in seen.delivered.invocations} == {None, "crashed"}
        assert seen.dead_letters
        written = {
            "log": case.driver.function.log_path.read_text(errors="replace"),
            "incidents": json.dumps(seen.entries),
            "dead letters": json.dumps(seen.dead_letters),
        }
        assert len(written["log"]) > 1000
        own = [case.driver.function.variables[name] for name in CREDENTIALS]
        for where, text in written.items():
            for secret in (*own, *SIGNATURES):
                assert secret not in text, f"{where} of {function}"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_log_so_far_holds_a_functions_credentials(plane: Plane, function: str) -> None:
    """Whatever this session has put the function through before."""
    driven = plane.drivers[function].function
    text = driven.log_path.read_text(errors="replace")
    assert not [name for name in CREDENTIALS if driven.variables[name] in text]
