"""A wrong configuration stops with one sentence: what, where, and what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_node_bootstrap.node_agent.settings import WeightsLoad
from infra.config import AppConfig, ExistingVpc, MachineImage, NewVpc
from infra.context import app_config
from infra.fields import ConfigError

EXISTING = {
    "id": "vpc-0123456789abcdef0",
    "availability_zones": ["us-east-1a", "us-east-1b"],
    "node_subnet_ids": ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2"],
}
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/1234"


def fleet(**keys: Any) -> dict[str, Any]:
    return {"fleets": [{"name": "chat", **keys}]}


def test_a_name_alone_makes_a_fleet_of_two_spot_nodes_in_a_vpc_of_its_own() -> None:
    (chat,) = app_config(fleet()).fleets
    assert (chat.name, chat.nodes, chat.min_nodes, chat.max_nodes, chat.on_demand_base) == (
        "chat",
        2,
        2,
        4,
        0,
    )
    assert chat.served_model_name == chat.model
    assert len(chat.instance_types) > 1
    assert isinstance(chat.vpc, NewVpc)
    assert not chat.load_balancer.internet_facing


def test_no_fleet_leaves_the_control_plane_for_fleets_of_others() -> None:
    config = app_config({})
    assert config.fleets == ()
    assert config.control_plane.notice_seconds == 120


def test_fleets_and_numbers_may_come_as_text_from_the_command_line() -> None:
    config = app_config({"fleets": json.dumps([{"name": "chat", "nodes": 3}]), "notice_seconds": "30"})
    assert config.control_plane.notice_seconds == 30
    assert config.fleets[0].nodes == 3
    assert config.fleets[0].notice_seconds == 30


def test_keys_of_the_cdk_itself_are_not_ours_to_judge() -> None:
    app_config(
        {"@aws-cdk/aws-iam:minimizePolicies": True, "aws:cdk:bundling-stacks": ["**"], "cli-telemetry": False}
    )


def test_an_existing_vpc_is_named_by_ids() -> None:
    (chat,) = app_config(fleet(vpc=EXISTING, load_balancer={"allowed_cidrs": ["10.0.0.0/8"]})).fleets
    assert isinstance(chat.vpc, ExistingVpc)
    assert chat.vpc.node_subnet_ids == ("subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2")
    assert chat.vpc.load_balancer_subnet_ids is None


def test_engine_arguments_that_only_look_like_the_agents_are_taken() -> None:
    arguments = ("--hf-overrides", '{"a": "b c"}', "--config_format=hf", "--model-impl", "auto", "-tp", "2")
    (chat,) = app_config(fleet(engine_args=list(arguments))).fleets
    assert chat.engine_args == arguments


def test_a_node_starts_from_amazons_image_and_asks_nobody_for_a_key_unless_told_otherwise() -> None:
    (chat,) = app_config(fleet()).fleets
    assert chat.machine_image is MachineImage.PLAIN
    assert chat.ami_parameter.startswith("/aws/service/deeplearning/ami/")
    assert chat.volume_initialization_rate_mibps is None
    assert (chat.weights, chat.compile_cache, chat.api_key_secret_arn) == (None, True, None)
    assert app_config(fleet()).image is None


def test_a_baked_fleet_boots_from_the_pipelines_newest_image_and_fills_its_disk_fast() -> None:
    config = app_config({"image": {"name": "ours"}, **fleet(machine_image="baked")})
    assert config.image is not None
    assert config.fleets[0].ami_parameter == "/imagebuilder/spot-failover/ours/ami-id"
    assert config.fleets[0].volume_initialization_rate_mibps == 300


def test_a_baked_fleet_can_leave_its_disk_to_a_fast_snapshot_restore() -> None:
    """EBS takes a stated rate before a snapshot that is restored at once."""
    (chat,) = app_config(
        {"image": {}, **fleet(machine_image="baked", volume_initialization_rate_mibps=0)}
    ).fleets
    assert chat.volume_initialization_rate_mibps is None


def test_a_baked_fleets_disk_holds_the_whole_image() -> None:
    (chat,) = app_config({"image": {"volume_gib": 400}, **fleet(machine_image="baked")}).fleets
    assert chat.volume_gib == 400


def test_the_image_may_come_as_text_from_the_command_line() -> None:
    image = app_config({"image": '{"name": "ours", "schedule": "cron(0 4 ? * sun *)"}'}).image
    assert image is not None
    assert (image.name, image.schedule, image.vpc) == ("ours", "cron(0 4 ? * sun *)", None)


def test_weights_in_s3_are_streamed_unless_a_download_is_asked_for() -> None:
    (chat,) = app_config(fleet(weights={"uri": "s3://our-models/qwen3-8b/"})).fleets
    assert chat.weights is not None
    assert (chat.weights.uri, chat.weights.load) == ("s3://our-models/qwen3-8b", WeightsLoad.STREAM)


WRONG = {
    "unknown key": (
        {"notice_second": 60},
        'the context: unknown key "notice_second"; did you mean "notice_seconds"?'
        " allowed: alarm_topic_arn, boot_limit_seconds, fleets, image, incident_ttl_days, log_retention_days,"
        " notice_seconds.",
    ),
    "unknown fleet key": (fleet(modle="x"), 'fleets[0] (chat): unknown key "modle"; did you mean "model"?'),
    "unknown nested key": (
        fleet(load_balancer={"certificate": "x"}),
        'fleets[0] (chat).load_balancer: unknown key "certificate"; did you mean "certificate_arn"?',
    ),
    "subnets without the VPC's id": (
        fleet(vpc={"node_subnet_ids": []}),
        '(chat).vpc: unknown key "node_subnet_ids"; subnets can only be named together with the VPC\'s id;',
    ),
    "no name": ({"fleets": [{}]}, "fleets[0]: name is missing; allowed: 1 to 24 of a-z, 0-9 and dashes"),
    "bad name": (
        {"fleets": [{"name": "My_Fleet"}]},
        'fleets[0]: name is "My_Fleet"; allowed: 1 to 24 of a-z',
    ),
    "duplicate name": (
        {"fleets": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
        'fleets[0] and fleets[2] are both named "a"; allowed: each name once.',
    ),
    "not a list": ({"fleets": {"name": "a"}}, 'fleets is {"name": "a"}; allowed: a list of fleets.'),
    "not JSON": (
        {"fleets": "chat"},
        "fleets is not valid JSON (Expecting value: line 1 column 1 (char 0)); allowed:",
    ),
    "not an object": ({"fleets": ["chat"]}, 'fleets[0] is "chat"; allowed: an object with keys.'),
    "notice too long": (
        {"notice_seconds": 121},
        "the context: notice_seconds is 121; allowed: a whole number from 10 to 120.",
    ),
    "notice is no number": (
        {"notice_seconds": "soon"},
        'the context: notice_seconds is "soon"; allowed: a whole',
    ),
    "notice is true": (
        {"notice_seconds": True},
        "the context: notice_seconds is true; allowed: a whole number",
    ),
    "retention CloudWatch has not": (
        {"log_retention_days": 10},
        "the context: log_retention_days is 10; allowed: 1, 3, 7, 14, 30, 90, 180, 365, 731.",
    ),
    "topic of another service": (
        {"alarm_topic_arn": "arn:aws:sqs:us-east-1:123456789012:q"},
        'allowed: an ARN that begins with "arn:aws:sns:".',
    ),
    "more nodes than the maximum": (
        fleet(nodes=5, max_nodes=4),
        "max_nodes is 4; allowed: a whole number from 5 to",
    ),
    "minimum above the nodes": (
        fleet(nodes=2, min_nodes=3),
        "min_nodes is 3; allowed: a whole number from 0 to 2.",
    ),
    "more on demand than nodes": (
        fleet(nodes=2, on_demand_base=3),
        "on_demand_base is 3; allowed: a whole number",
    ),
    "no GPU": (
        fleet(instance_types=["m7i.large"]),
        'instance_types is "m7i.large"; allowed: types of the NVIDIA GPU',
    ),
    "ARM GPU": (fleet(instance_types=["g5g.xlarge"]), 'instance_types is "g5g.xlarge"; allowed:'),
    "no instance type": (fleet(instance_types=[]), "instance_types is []; allowed: a list of at least one"),
    "instance type twice": (
        fleet(instance_types=["g6.xlarge", "g6.xlarge"]),
        'fleets[0] (chat): instance_types names "g6.xlarge" twice; allowed: each once.',
    ),
    "port of its own for the engine": (
        fleet(engine_args=["--port=9000"]),
        'engine_args is "--port=9000"; allowed: what the node agent does not rule: --host, --port,',
    ),
    "model name of its own, spelled with underscores": (
        fleet(engine_args=["--served_model_name", "x"]),
        'engine_args is "--served_model_name"; allowed: what the node agent does not rule: --host,',
    ),
    "port of its own, cut short": (
        fleet(engine_args=["--por", "9000"]),
        'engine_args is "--por"; allowed: what the node agent does not rule: --host,',
    ),
    "option and value in one text": (
        fleet(engine_args=["--port 9000"]),
        'engine_args is "--port 9000"; allowed: one text for an option and one for its value, like "--seed",',
    ),
    "no statistics for the drain to read": (
        fleet(engine_args=["--disable_log_stats"]),
        'engine_args is "--disable_log_stats"; allowed: arguments that leave vLLM\'s statistics on, for',
    ),
    "engine arguments in a file": (
        fleet(engine_args=["--config=/etc/vllm.yaml"]),
        'engine_args is "--config=/etc/vllm.yaml"; allowed: the arguments themselves, for a file could hold',
    ),
    "text for a list": (fleet(engine_args="--fast"), 'engine_args is "--fast"; allowed: a list of texts'),
    "line break in an argument": (
        fleet(engine_args=["a\nb"]),
        'engine_args is "a\\nb"; allowed: a list of texts on one',
    ),
    "line break in the model": (fleet(model="a\nb"), 'model is "a\\nb"; allowed: a text on one line'),
    "empty model": (fleet(model=" "), 'model is " "; allowed: a text on one line'),
    "disk too small for the image": (
        fleet(volume_gib=20),
        "volume_gib is 20; allowed: a whole number from 100",
    ),
    "more throughput than gp3's own IOPS carry": (
        fleet(volume_throughput_mibps=1000),
        "volume_throughput_mibps is 1000; allowed: a whole number from 125 to 750.",
    ),
    "hook longer than Auto Scaling's": (
        fleet(start_timeout_seconds=7081),
        "allowed: a whole number from 60 to 7080.",
    ),
    "range that is none": (
        fleet(vpc={"cidr": "10.0.0.1/16"}),
        'vpc: cidr is "10.0.0.1/16"; allowed: an IPv4 range',
    ),
    "range too small": (
        fleet(vpc={"cidr": "10.0.0.0/24"}),
        'cidr is "10.0.0.0/24"; allowed: an IPv4 range from /16',
    ),
    "one zone": (fleet(vpc={"availability_zones": ["us-east-1a"]}), "allowed: two zones or more"),
    "zone id for a name": (
        fleet(vpc={"availability_zones": ["use1-az1", "use1-az2"]}),
        'is "use1-az1"; allowed:',
    ),
    "subnets that do not match the zones": (
        fleet(vpc={**EXISTING, "node_subnet_ids": ["subnet-0aaaaaaaaaaaaaaa1"]}),
        "allowed: one subnet for each of availability_zones, in its order, two or more.",
    ),
    "existing VPC without callers": (
        fleet(vpc=EXISTING),
        "fleets[0] (chat).load_balancer: allowed_cidrs is []; allowed: at least one range",
    ),
    "internet without HTTPS": (
        fleet(load_balancer={"internet_facing": True, "allowed_cidrs": ["203.0.113.0/24"]}),
        "internet_facing is true; allowed: false, or a certificate_arn beside it",
    ),
    "internet-facing in an existing VPC without public subnets": (
        fleet(
            vpc=EXISTING,
            load_balancer={
                "internet_facing": True,
                "certificate_arn": CERTIFICATE,
                "allowed_cidrs": ["203.0.113.0/24"],
            },
        ),
        "internet_facing is true; allowed: false, or public subnets as vpc.load_balancer_subnet_ids.",
    ),
    "the whole internet": (
        fleet(load_balancer={"allowed_cidrs": ["0.0.0.0/0"]}),
        'allowed_cidrs is "0.0.0.0/0"; allowed: ranges of known callers',
    ),
    "netmask for a prefix": (
        fleet(load_balancer={"allowed_cidrs": ["0.0.0.0/128.0.0.0"]}),
        'allowed_cidrs is "0.0.0.0/128.0.0.0"; allowed: a list of IPv4 ranges like "10.0.0.0/8".',
    ),
    "half of the internet, and beside it the other half": (
        fleet(load_balancer={"allowed_cidrs": ["10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"]}),
        'allowed_cidrs is "0.0.0.0/1"; allowed: ranges of known callers, none wider than /8: the engine asks',
    ),
    "no such machine image": (
        fleet(machine_image="golden"),
        'fleets[0] (chat): machine_image is "golden"; allowed: "plain" or "baked".',
    ),
    "image on a parameter that Image Builder may not read": (
        {"image": {"base_ami_parameter": "/ours/ami"}},
        'image: base_ami_parameter is "/ours/ami"; allowed: an SSM parameter below "/aws/service/" or',
    ),
    "baked by nobody": (
        fleet(machine_image="baked"),
        'machine_image is "baked"; allowed: "plain", or an image pipeline under the key image.',
    ),
    "two machine images": (
        {"image": {}, **fleet(machine_image="baked", ami_parameter="/ours/ami")},
        'machine_image is "baked"; allowed: "plain" where ami_parameter names a machine image of your own.',
    ),
    "disk smaller than the baked image": (
        {"image": {"volume_gib": 300}, **fleet(machine_image="baked", volume_gib=200)},
        "volume_gib is 200; allowed: a whole number from 300 to 16384.",
    ),
    "disk filled slower than EBS offers": (
        fleet(volume_initialization_rate_mibps=50),
        "volume_initialization_rate_mibps is 50; allowed: 0, or a number from 100 to 300.",
    ),
    "weights nowhere": (
        fleet(weights={"load": "stream"}),
        'fleets[0] (chat).weights: uri is missing; allowed: a place like "s3://our-models/qwen3-8b".',
    ),
    "weights in no bucket": (
        fleet(weights={"uri": "s3:///qwen"}),
        'weights: uri is "s3:///qwen"; allowed: a',
    ),
    "weights of everybody": (
        fleet(weights={"uri": "s3://our-models/*"}),
        'weights: uri is "s3://our-models/*"; allowed: a place like',
    ),
    "weights loaded in no way": (
        fleet(weights={"uri": "s3://our-models/qwen", "load": "mount"}),
        'weights: load is "mount"; allowed: "stream" or "download".',
    ),
    "any key for an API key": (
        fleet(api_key_secret_arn="arn:aws:secretsmanager:us-east-1:123456789012:secret:*"),
        'allowed: an ARN that begins with "arn:aws:secretsmanager:".',
    ),
    "the key itself for its ARN": (
        fleet(api_key_secret_arn="hunter2"),
        'allowed: an ARN that begins with "arn:aws:secretsmanager:".',
    ),
    "image that is no object": ({"image": ["vllm"]}, 'image is ["vllm"]; allowed: an object with keys.'),
    "image that is no JSON": ({"image": "vllm"}, "image is not valid JSON (Expecting value:"),
    "unknown image key": ({"image": {"nam": "x"}}, 'image: unknown key "nam"; did you mean "name"?'),
    "image built without a GPU": (
        {"image": {"instance_type": "m7i.large"}},
        'image: instance_type is "m7i.large"; allowed: types of the NVIDIA GPU families',
    ),
    "image built at no time": (
        {"image": {"schedule": "daily"}},
        'image: schedule is "daily"; allowed: a time',
    ),
    "builder's subnet without its security groups": (
        {"image": {"vpc": {"subnet_id": "subnet-0aaaaaaaaaaaaaaa1"}}},
        "image.vpc: security_group_ids is []; allowed: at least one, to go with the subnet.",
    ),
    "builder's security groups without a subnet": (
        {"image": {"vpc": {"security_group_ids": ["sg-0aaaaaaaaaaaaaaa1"]}}},
        "image.vpc: subnet_id is missing; allowed: an id like",
    ),
    "true as a text": (
        fleet(load_balancer={"internet_facing": "yes"}),
        'internet_facing is "yes"; allowed: true or',
    ),
}


@pytest.mark.parametrize(("context", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_named_with_its_place_and_what_is_allowed(
    context: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        app_config(context)
    text = str(raised.value)
    assert sentence in text
    assert "\n" not in text
    assert text.endswith(".")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
_FLEET_KEYS = st.sampled_from(
    ["name", "model", "engine_args", "instance_types", "nodes", "vpc", "weights", "machine_image"]
)


@settings(deadline=None)  # the machine may be busy with an engine
@given(
    context=st.dictionaries(st.sampled_from(["notice_seconds", "fleets", "image", "other"]), _JSON)
    | st.fixed_dictionaries(
        {"fleets": st.lists(st.dictionaries(_FLEET_KEYS, _JSON | st.just("chat"), max_size=4), max_size=2)}
    )
)
def test_any_json_is_either_a_configuration_or_a_sentence(context: dict[str, Any]) -> None:
    try:
        outcome: AppConfig | ConfigError = app_config(context)
    except ConfigError as err:
        outcome = err
    assert isinstance(outcome, AppConfig) or str(outcome).endswith(".")
