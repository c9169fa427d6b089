"""A fleet's stack: spot nodes that come into service ready, behind a load balancer that asks their agents."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra.names import HEALTH_PATH
from tests.infra.templates import Template


def attributes(pairs: list[dict[str, str]]) -> dict[str, str]:
    return {pair["Key"]: pair["Value"] for pair in pairs}


@pytest.fixture(scope="module")
def group(fleet: Template) -> Any:
    return fleet.only("AWS::AutoScaling::AutoScalingGroup")


@pytest.fixture(scope="module")
def launch_template(fleet: Template) -> Any:
    return fleet.only("AWS::EC2::LaunchTemplate")["LaunchTemplateData"]


@pytest.fixture(scope="module")
def target_group(fleet: Template) -> Any:
    return fleet.only("AWS::ElasticLoadBalancingV2::TargetGroup")


@pytest.fixture(scope="module")
def load_balancer(fleet: Template) -> Any:
    return fleet.only("AWS::ElasticLoadBalancingV2::LoadBalancer")


def test_nodes_are_spot_of_several_gpu_types_chosen_by_price_and_capacity(group: Any) -> None:
    policy = group["MixedInstancesPolicy"]
    assert policy["InstancesDistribution"] == {
        "OnDemandBaseCapacity": 0,
        "OnDemandPercentageAboveBaseCapacity": 0,
        "SpotAllocationStrategy": "price-capacity-optimized",
    }
    types = [override["InstanceType"] for override in policy["LaunchTemplate"]["Overrides"]]
    assert len(types) >= 6
    assert {instance_type.split(".")[0] for instance_type in types} == {"g6e", "g6", "g5"}


def test_a_node_comes_into_service_only_when_its_agent_says_so(group: Any) -> None:
    (hook,) = group["LifecycleHookSpecificationList"]
    assert hook == {
        "LifecycleHookName": "spot-failover-ready",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
        "HeartbeatTimeout": 1920,
        "DefaultResult": "ABANDON",
    }


def test_a_hook_of_its_own_would_miss_the_first_nodes(fleet: Template) -> None:
    assert not fleet.resources("AWS::AutoScaling::LifecycleHook")


def test_replacements_have_one_owner(group: Any) -> None:
    assert group["CapacityRebalance"] is False


def test_what_the_group_replaces_by_itself_is_replaced_before_it_is_ended(group: Any) -> None:
    assert group["InstanceMaintenancePolicy"] == {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200}
    assert group["HealthCheckType"] == "ELB"


def test_the_tag_that_makes_a_fleet_is_on_group_nodes_and_target_group(group: Any, target_group: Any) -> None:
    assert {"Key": "spot-failover:fleet", "Value": "default", "PropagateAtLaunch": True} in group["Tags"]
    assert {"Key": "spot-failover:fleet", "Value": "default"} in target_group["Tags"]
    assert group["AutoScalingGroupName"] == "spot-failover-default"


def test_the_first_nodes_wait_for_their_way_out(fleet: Template) -> None:
    (group,) = (
        r for r in fleet.body["Resources"].values() if r["Type"] == "AWS::AutoScaling::AutoScalingGroup"
    )
    routes = [
        name
        for name, route in fleet.resources("AWS::EC2::Route").items()
        if "NatGatewayId" in route and route["DestinationCidrBlock"] == "0.0.0.0/0"
    ]
    assert len(routes) == 2
    assert set(routes) <= set(group["DependsOn"])


def test_the_load_balancer_asks_the_agent_and_believes_it_within_ten_seconds(target_group: Any) -> None:
    assert (target_group["HealthCheckPort"], target_group["HealthCheckPath"]) == ("8081", HEALTH_PATH)
    assert target_group["HealthCheckIntervalSeconds"] * target_group["UnhealthyThresholdCount"] <= 10
    assert target_group["HealthCheckTimeoutSeconds"] < target_group["HealthCheckIntervalSeconds"]
    assert target_group["Port"] == 8000


def test_a_deregistered_node_keeps_its_connections_for_the_notice_and_no_longer(target_group: Any) -> None:
    values = attributes(target_group["TargetGroupAttributes"])
    assert values["deregistration_delay.timeout_seconds"] == "120"
    assert values["load_balancing.algorithm.type"] == "least_outstanding_requests"


def test_a_long_silent_generation_is_not_cut(load_balancer: Any) -> None:
    assert attributes(load_balancer["LoadBalancerAttributes"])["idle_timeout.timeout_seconds"] == "600"


def test_the_load_balancer_is_internal_and_open_to_its_vpc_alone(fleet: Template, load_balancer: Any) -> None:
    assert load_balancer["Scheme"] == "internal"
    listener = fleet.only("AWS::ElasticLoadBalancingV2::Listener")
    assert (listener["Port"], listener["Protocol"]) == (80, "HTTP")
    opened = [
        rule["CidrIp"]
        for security_group in fleet.resources("AWS::EC2::SecurityGroup").values()
        for rule in security_group.get("SecurityGroupIngress", [])
    ]
    assert opened == [fleet.only("AWS::EC2::VPC")["CidrBlock"]]


def test_nodes_are_reached_by_the_load_balancer_alone_on_engine_and_health_port(fleet: Template) -> None:
    rules = fleet.resources("AWS::EC2::SecurityGroupIngress").values()
    assert {rule["FromPort"] for rule in rules} == {rule["ToPort"] for rule in rules} == {8000, 8081}
    assert all("SourceSecurityGroupId" in rule for rule in rules)


def test_metadata_takes_a_token_and_stays_out_of_containers_reach(launch_template: Any) -> None:
    options = launch_template["MetadataOptions"]
    assert options["HttpTokens"] == "required"
    assert options["HttpPutResponseHopLimit"] == 1


def test_there_is_no_key_no_open_ssh_and_no_disk_in_clear(fleet: Template, launch_template: Any) -> None:
    assert "KeyName" not in launch_template
    assert not re.search(r'"(From|To)Port": 22\b', json.dumps(fleet.body))
    (disk,) = launch_template["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True
    assert (disk["Ebs"]["VolumeType"], disk["Ebs"]["VolumeSize"]) == ("gp3", 200)


def test_nodes_have_no_public_address(fleet: Template, launch_template: Any) -> None:
    assert "NetworkInterfaces" not in launch_template
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in fleet.resources("AWS::EC2::Subnet").values())


def test_the_image_is_amazons_gpu_image_as_of_the_deployment(fleet: Template, launch_template: Any) -> None:
    parameter = fleet.body["Parameters"][launch_template["ImageId"]["Ref"]]
    assert parameter == {
        "Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
        "Default": "/aws/service/deeplearning/ami/x86_64/"
        "base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id",
    }


def test_there_is_one_nat_gateway_and_none_for_s3(fleet: Template) -> None:
    assert len(fleet.resources("AWS::EC2::NatGateway")) == 1
    endpoint = fleet.only("AWS::EC2::VPCEndpoint")
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert fleet.text(endpoint["ServiceName"]) == "com.amazonaws.us-east-1.s3"


def test_an_existing_vpc_is_used_and_nothing_is_added_to_it_but_security_groups(
    fleet_in_existing_vpc: Template,
) -> None:
    kinds = {resource["Type"] for resource in fleet_in_existing_vpc.body["Resources"].values()}
    assert {kind for kind in kinds if kind.startswith("AWS::EC2::")} == {
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::LaunchTemplate",
    }
    subnets = ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2"]
    assert fleet_in_existing_vpc.only("AWS::AutoScaling::AutoScalingGroup")["VPCZoneIdentifier"] == subnets
    load_balancer = fleet_in_existing_vpc.only("AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert load_balancer["Subnets"] == subnets
    values = attributes(load_balancer["LoadBalancerAttributes"])
    assert values["access_logs.s3.enabled"] == "true"
    assert values["access_logs.s3.bucket"] == "our-access-logs"
    target_group = fleet_in_existing_vpc.only("AWS::ElasticLoadBalancingV2::TargetGroup")
    assert target_group["VpcId"] == "vpc-0123456789abcdef0"


def test_a_certificate_makes_the_listener_https_alone(public_fleet: Template) -> None:
    listener = public_fleet.only("AWS::ElasticLoadBalancingV2::Listener")
    assert (listener["Port"], listener["Protocol"]) == (443, "HTTPS")
    assert [c["CertificateArn"].split(":")[2] for c in listener["Certificates"]] == ["acm"]
    assert listener["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2")
    load_balancer = public_fleet.only("AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert load_balancer["Scheme"] == "internet-facing"
    assert len(load_balancer["Subnets"]) == 3
    assert "203.0.113.0/24" in json.dumps(public_fleet.resources("AWS::EC2::SecurityGroup"))


def test_options_reach_the_group(public_fleet: Template) -> None:
    group = public_fleet.only("AWS::AutoScaling::AutoScalingGroup")
    assert (group["MinSize"], group["DesiredCapacity"], group["MaxSize"]) == ("2", "4", "9")
    policy = group["MixedInstancesPolicy"]
    assert policy["InstancesDistribution"]["OnDemandBaseCapacity"] == 1
    assert [o["InstanceType"] for o in policy["LaunchTemplate"]["Overrides"]] == ["g6.xlarge", "g5.xlarge"]
    assert group["LifecycleHookSpecificationList"][0]["HeartbeatTimeout"] == 1020


def test_the_disk_fills_at_a_stated_rate_where_the_image_is_baked(
    public_fleet: Template, launch_template: Any
) -> None:
    baked = public_fleet.only("AWS::EC2::LaunchTemplate")["LaunchTemplateData"]
    (disk,) = baked["BlockDeviceMappings"]
    assert disk["Ebs"]["VolumeInitializationRate"] == 300
    (plain,) = launch_template["BlockDeviceMappings"]
    assert "VolumeInitializationRate" not in plain["Ebs"]


def test_a_baked_fleet_boots_from_what_the_pipeline_named_last(public_fleet: Template) -> None:
    image = public_fleet.only("AWS::EC2::LaunchTemplate")["LaunchTemplateData"]["ImageId"]
    assert public_fleet.body["Parameters"][image["Ref"]] == {
        "Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
        "Default": "/imagebuilder/spot-failover/vllm/ami-id",
    }


def egress_of_nodes(fleet: Template) -> set[tuple[str, int, int, str]]:
    (group,) = (
        group
        for group in fleet.resources("AWS::EC2::SecurityGroup").values()
        if group["GroupDescription"].startswith("vLLM nodes")
    )
    return {
        (rule["IpProtocol"], rule["FromPort"], rule["ToPort"], rule["CidrIp"])
        for rule in group["SecurityGroupEgress"]
    }


def test_nodes_speak_https_to_the_outside_and_nothing_else(fleet: Template) -> None:
    assert egress_of_nodes(fleet) == {("tcp", 443, 443, "0.0.0.0/0")}


def test_nodes_in_an_existing_vpc_also_reach_its_resolvers(fleet_in_existing_vpc: Template) -> None:
    assert egress_of_nodes(fleet_in_existing_vpc) == {
        ("tcp", 443, 443, "0.0.0.0/0"),
        ("tcp", 53, 53, "0.0.0.0/0"),
        ("udp", 53, 53, "0.0.0.0/0"),
    }


def test_compile_caches_are_private_encrypted_and_forgotten_in_time(fleet: Template) -> None:
    bucket = fleet.only("AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (lifecycle,) = bucket["LifecycleConfiguration"]["Rules"]
    assert (lifecycle["Status"], lifecycle["ExpirationInDays"]) == ("Enabled", 90)
    assert lifecycle["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    (deny,) = fleet.only("AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Principal"]) == ("Deny", {"AWS": "*"})
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_a_destroyed_fleet_leaves_a_bucket_that_empties_itself_and_no_log(fleet: Template) -> None:
    by_type = {r["Type"]: r for r in fleet.body["Resources"].values()}
    assert by_type["AWS::S3::Bucket"]["DeletionPolicy"] == "Retain"
    (logs,) = (
        r
        for r in fleet.body["Resources"].values()
        if r["Type"] == "AWS::Logs::LogGroup" and "LogGroupName" in r["Properties"]
    )
    assert logs["Properties"]["LogGroupName"] == "/spot-failover/nodes/default"
    assert logs["Properties"]["RetentionInDays"] == 30
    assert logs["DeletionPolicy"] == "Delete"
