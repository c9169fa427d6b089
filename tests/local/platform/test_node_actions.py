"""What a node's role may do is bound to the node's own things, and what it does arrives."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.log_shipper import LogShipper
from gpu_node_bootstrap.node_agent.reports import SOURCE, Reporter
from gpu_node_bootstrap.node_agent.settings import Settings
from gpu_node_bootstrap.node_agent.unhealthy import ReplacementRequest

ACCOUNT = "us-east-1:123456789012"
BUS = f"arn:aws:events:{ACCOUNT}:event-bus/default"
GROUP = "/spot-failover/fleet/mine"
INSTANCE = "i-0123456789abcdef0"

# Assumes a role, and reads an object as that role.
BORROWER = """
import boto3, botocore.exceptions
def handler(event, context):
    try:
        lent = boto3.client("sts").assume_role(RoleArn=event["role"], RoleSessionName="engine")["Credentials"]
    except botocore.exceptions.ClientError as err:
        return {"assume": err.response["Error"]["Code"]}
    s3 = boto3.client("s3", aws_access_key_id=lent["AccessKeyId"],
        aws_secret_access_key=lent["SecretAccessKey"], aws_session_token=lent["SessionToken"])
    codes = {"assume": "ok"}
    for key in event["keys"]:
        try:
            s3.get_object(Bucket=event["bucket"], Key=key)
            codes[key] = "ok"
        except botocore.exceptions.ClientError as err:
            codes[key] = err.response["Error"]["Code"]
    return codes
"""


def allow(actions: str | list[str], resource: str, condition: Any = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def put_entry(source: str, bus: str = "default") -> dict[str, str]:
    return {"Source": source, "DetailType": "x", "Detail": "{}", "EventBusName": bus}


@pytest.mark.parametrize(
    ("sources", "bus", "code"),
    [
        ([SOURCE], "default", "ok"),
        ([SOURCE], BUS, "ok"),
        ([SOURCE, "somebody.else"], "default", "AccessDeniedException"),
        (["somebody.else"], "default", "AccessDeniedException"),
        ([SOURCE], "other", "AccessDeniedException"),
    ],
)
def test_a_node_reports_under_its_own_source_only(
    bench: Any, caller_source: str, sources: list[str], bus: str, code: str
) -> None:
    own = {"ForAllValues:StringEquals": {"events:source": SOURCE}, "Null": {"events:source": "false"}}
    name = f"reporter-{len(sources)}-{sources[0]}-{bus.rsplit('/', 1)[-1]}-{len(bus)}".replace(".", "-")
    bench.function(name, caller_source, allow("events:PutEvents", BUS, own))
    answer = bench.call(name, "events", "put_events", Entries=[put_entry(one, bus) for one in sources])
    assert answer["Code"] == code, answer


def test_a_node_writes_into_its_own_log_group_only(bench: Any, caller_source: str) -> None:
    logs = bench.aws.client("logs")
    for name in (GROUP, f"{GROUP}-other"):
        logs.create_log_group(logGroupName=name)
    arn = f"arn:aws:logs:{ACCOUNT}:log-group:{GROUP}:*"
    bench.function("logger", caller_source, allow(["logs:CreateLogStream", "logs:PutLogEvents"], arn))
    events = [{"timestamp": int(time.time() * 1000), "message": "hello"}]
    codes = {}
    for name in (GROUP, f"{GROUP}-other"):
        stream = {"logGroupName": name, "logStreamName": "i-1"}
        made = bench.call("logger", "logs", "create_log_stream", **stream)["Code"]
        codes[name] = (
            made,
            bench.call("logger", "logs", "put_log_events", **stream, logEvents=events)["Code"],
        )
    refused = "AccessDeniedException"
    assert codes == {GROUP: ("ok", "ok"), f"{GROUP}-other": (refused, refused)}
    found = logs.get_log_events(logGroupName=GROUP, logStreamName="i-1")["events"]
    assert [one["message"] for one in found] == ["hello"]


def test_a_node_lists_and_writes_below_its_own_prefix_only(bench: Any, caller_source: str) -> None:
    bench.aws.client("s3").create_bucket(Bucket="caches")
    bench.function(
        "cacher",
        caller_source,
        allow(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::caches/mine/*"),
        allow("s3:ListBucket", "arn:aws:s3:::caches", {"StringLike": {"s3:prefix": "mine/*"}}),
    )
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("put_object", {"Key": "mine/a", "Body": "x"}, "ok"),
        ("put_object", {"Key": "others/a", "Body": "x"}, "AccessDenied"),
        ("create_multipart_upload", {"Key": "mine/b"}, "ok"),
        ("create_multipart_upload", {"Key": "others/b"}, "AccessDenied"),
        ("list_objects_v2", {"Prefix": "mine/"}, "ok"),
        ("list_objects_v2", {"Prefix": "others/"}, "AccessDenied"),
        ("list_objects_v2", {}, "AccessDenied"),
    ]
    codes = [bench.call("cacher", "s3", call, Bucket="caches", **given)["Code"] for call, given, _ in cases]
    assert codes == [code for _, _, code in cases]


def test_an_object_that_exists_is_not_written_over_when_that_is_asked(bench: Any, caller_source: str) -> None:
    bench.aws.client("s3").create_bucket(Bucket="once")
    bench.function("writer-once", caller_source, allow("s3:PutObject", "arn:aws:s3:::once/*"))
    given = {"Bucket": "once", "Key": "cache", "IfNoneMatch": "*"}
    codes = [bench.call("writer-once", "s3", "put_object", Body=text, **given)["Code"] for text in "ab"]
    assert codes == ["ok", "PreconditionFailed"]
    body = bench.aws.client("s3").get_object(Bucket="once", Key="cache")["Body"].read()
    assert body == b"a"


def test_a_node_reads_its_own_secret_only(bench: Any, caller_source: str) -> None:
    secrets = bench.aws.client("secretsmanager")
    arns = {name: secrets.create_secret(Name=name, SecretString="key")["ARN"] for name in ("mine", "another")}
    bench.function("reader", caller_source, allow("secretsmanager:GetSecretValue", arns["mine"]))
    codes = {
        wanted: bench.call("reader", "secretsmanager", "get_secret_value", SecretId=wanted)["Code"]
        for wanted in (arns["mine"], "mine", arns["another"], "another")
    }
    refused = "AccessDeniedException"
    assert codes == {arns["mine"]: "ok", "mine": "ok", arns["another"]: refused, "another": refused}


def test_a_role_that_a_node_lends_is_enforced_as_its_own(bench: Any) -> None:
    s3 = bench.aws.client("s3")
    s3.create_bucket(Bucket="weights")
    for key in ("model/a", "private/a"):
        s3.put_object(Bucket="weights", Key=key, Body=b"x")
    node = bench.role("lender", allow("sts:AssumeRole", "*"), allow("s3:GetObject", "*"))
    trust = {"Effect": "Allow", "Principal": {"AWS": node}, "Action": "sts:AssumeRole"}
    trusting = {"Version": "2012-10-17", "Statement": [trust]}
    model = allow("s3:GetObject", "arn:aws:s3:::weights/model/*")
    reader = bench.role("weights-reader", model, trust=trusting)
    stranger = bench.role("stranger", model)
    bench.function("borrower", BORROWER, role=node)
    given = {"bucket": "weights", "keys": ["model/a", "private/a"]}
    codes, _ = bench.invoke("borrower", {"role": reader, **given})
    assert codes == {"assume": "ok", "model/a": "ok", "private/a": "AccessDenied"}
    refused, _ = bench.invoke("borrower", {"role": stranger, **given})
    assert refused == {"assume": "AccessDenied"}
    bench.aws.client("iam").delete_role_policy(RoleName="lender", PolicyName="own")
    refused, _ = bench.invoke("borrower", {"role": reader, **given})
    assert refused == {"assume": "AccessDenied"}


def test_a_node_calls_nobody_sick_but_members_of_its_group(bench: Any, caller_source: str) -> None:
    group = f"arn:aws:autoscaling:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/mine"
    bench.function("nurse", caller_source, allow("autoscaling:SetInstanceHealth", group))
    given = {"InstanceId": INSTANCE, "HealthStatus": "Unhealthy"}
    assert bench.call("nurse", "autoscaling", "set_instance_health", **given)["Code"] == "AccessDenied"
    with pytest.raises(Exception, match="No managed instance found"):
        bench.aws.client("autoscaling").set_instance_health(**given)


@pytest.fixture
def settings(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return an agent's settings, with the real AWS command line pointed at the local AWS."""
    given = {
        "AWS_ENDPOINT_URL": bench.aws.endpoint_url,
        "AWS_ACCESS_KEY_ID": "operator",
        "AWS_SECRET_ACCESS_KEY": "operator",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    fields = {
        "FLEET": "mine",
        "REGION": "us-east-1",
        "ASG_NAME": "mine",
        "ENGINE": "process",
        "ENGINE_COMMAND": '["engine"]',
        "SERVED_MODEL_NAME": "tiny",
        "LOG_GROUP": "/spot-failover/fleet/shipped",
        "EVENT_BUS": "default",
    }
    return Settings.from_environment({f"SPOT_FAILOVER_{name}": value for name, value in fields.items()})


def test_an_agents_log_and_reports_arrive_by_the_real_command_line(
    bench: Any, settings: Settings, soon: Callable[..., Any]
) -> None:
    logs, events = bench.aws.client("logs"), bench.aws.client("events")
    logs.create_log_group(logGroupName=settings.log_group)
    rule = events.put_rule(Name="nodes", EventPattern=json.dumps({"source": [SOURCE]}))["RuleArn"]
    url, arn = bench.queue("nodes")
    let_in = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [let_in]})
    bench.aws.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_targets(Rule="nodes", Targets=[{"Id": "queue", "Arn": arn}])
    log = Log(stream=io.StringIO(), fleet="mine")
    shipper = LogShipper(settings, instance_id=lambda: INSTANCE, log=log)
    reporter = Reporter(settings, instance_id=lambda: INSTANCE, log=log)
    log.info("agent_started", engine="process")
    log.metrics({"boot.seconds": ("Seconds", 31.5)})
    reporter.engine_failed(reason="it ended", restarts=1, final=False)
    shipper.start()
    reporter.start()
    (body,) = soon(lambda: bench.waiting(url))
    reporter.close(grace_seconds=5)
    shipper.close(grace_seconds=15)
    event = json.loads(body)
    assert (event["source"], event["detail-type"]) == (SOURCE, "Spot Failover Node Engine Failed")
    assert event["detail"].items() >= {"instance-id": INSTANCE, "fleet": "mine", "restarts": 1}.items()
    found = logs.get_log_events(logGroupName=settings.log_group, logStreamName=INSTANCE)["events"]
    lines = [json.loads(one["message"]) for one in found]
    assert [line["event"] for line in lines] == ["agent_started", "metrics"]
    assert lines[1]["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [
        {"Name": "boot.seconds", "Unit": "Seconds"}
    ]


def test_an_instance_that_is_in_no_group_asks_for_its_replacement_once(
    bench: Any, settings: Settings, soon: Callable[..., Any]
) -> None:
    request = ReplacementRequest(settings, instance_id=lambda: INSTANCE, log=Log(stream=io.StringIO()))
    request.ask("the GPU is lost")
    soon(lambda: request.view["result"] != "asking")
    assert (request.view["result"], request.view["tries"]) == ("not_in_group", 1)
    request.close(grace_seconds=1)
