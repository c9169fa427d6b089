"""Resource types of the template that moto's CloudFormation lacks, or creates without some property."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudwatch.models import MetricDataQuery, cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.core.utils import camelcase_to_underscores
from moto.dynamodb.models import dynamodb_backends
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.logs.models import LogGroup
from moto.sqs.models import sqs_backends

from local_aws.cloudformation.seam import after_create, default_properties, register_model
from local_aws.world import World

Create = Callable[[str, Mapping[str, Any]], None]


def simple_model(resource_type: str, name_property: str, create: Create) -> type[CloudFormationModel]:
    """Return a model class: `create(physical name, properties)` makes it, and it has no attributes."""

    class Model(CloudFormationModel):  # type: ignore[misc] # moto is untyped here
        def __init__(self, name: str) -> None:
            self.physical_resource_id = name

        @staticmethod
        def cloudformation_type() -> str:
            return resource_type

        @staticmethod
        def cloudformation_name_type() -> str:
            return name_property

        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:  # noqa: ARG003 - moto's signature
            return False

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: Any, *_: Any, **__: Any
        ) -> Model:
            create(resource_name, cloudformation_json.get("Properties", {}))
            return cls(resource_name)

    return Model


def _alarm_model(world: World) -> type[CloudFormationModel]:
    class Alarm(simple_model("AWS::CloudWatch::Alarm", "AlarmName", _put_alarm(world))):  # type: ignore[misc]
        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:
            return attr == "Arn"

        def get_cfn_attribute(self, attribute_name: str) -> str:
            assert attribute_name == "Arn", attribute_name
            name = self.physical_resource_id
            return f"arn:aws:cloudwatch:{world.region}:{world.account_id}:alarm:{name}"

    return Alarm


_ALARM_PROPERTIES = (
    "Namespace",
    "MetricName",
    "ComparisonOperator",
    "EvaluationPeriods",
    "Period",
    "Threshold",
    "Statistic",
    "AlarmActions",
    "DatapointsToAlarm",
    "ExtendedStatistic",
    "Unit",
    "TreatMissingData",
    "Tags",
)


def _put_alarm(world: World) -> Create:
    def put(name: str, properties: Mapping[str, Any]) -> None:
        queries = [_metric_query(query) for query in properties.get("Metrics", [])]
        given = {camelcase_to_underscores(each): properties.get(each) for each in _ALARM_PROPERTIES}
        cloudwatch_backends[world.account_id][world.region].put_metric_alarm(
            name=name,
            description=properties.get("AlarmDescription"),
            dimensions=properties.get("Dimensions", []),
            metric_data_queries=queries,
            ok_actions=properties.get("OKActions", []),
            insufficient_data_actions=properties.get("InsufficientDataActions", []),
            **given | {"alarm_actions": properties.get("AlarmActions", [])},
        )

    return put


def _metric_query(query: Mapping[str, Any]) -> MetricDataQuery:
    """Return a query over metrics as moto keeps it; of none are alarms evaluated here."""
    if "MetricStat" in query:
        raise NotImplementedError("alarms on metric math are not emulated")
    return MetricDataQuery(
        query_id=query["Id"],
        label=query.get("Label"),
        period=query["Period"],
        return_data=query.get("ReturnData", True),
        expression=query["Expression"],
    )


def _put_queue_policies(world: World) -> Create:
    def put(_: str, properties: Mapping[str, Any]) -> None:
        backend = sqs_backends[world.account_id][world.region]
        for url in properties["Queues"]:
            policy = json.dumps(properties["PolicyDocument"])
            backend.set_queue_attributes(url.rsplit("/", 1)[-1], {"Policy": policy})

    return put


def _put_egress_rule(world: World) -> Create:
    def put(_: str, properties: Mapping[str, Any]) -> None:
        group = properties.get("DestinationSecurityGroupId")
        ec2_backends[world.account_id][world.region].authorize_security_group_egress(
            group_name_or_id=properties["GroupId"],
            ip_protocol=properties["IpProtocol"],
            from_port=properties.get("FromPort"),
            to_port=properties.get("ToPort"),
            ip_ranges=[{"CidrIp": properties["CidrIp"]}] if "CidrIp" in properties else [],
            source_groups=[{"GroupId": group}] if group else [],
        )

    return put


def _end_log_group_arns_as_aws_does() -> None:
    """CloudFormation's ARN of a log group ends in `:*` and so covers its streams; moto's does not."""
    moto_attribute = LogGroup.get_cfn_attribute

    def get_cfn_attribute(group: LogGroup, attribute_name: str) -> str:
        value = str(moto_attribute(group, attribute_name))
        return f"{value}:*" if attribute_name == "Arn" and not value.endswith(":*") else value

    LogGroup.get_cfn_attribute = get_cfn_attribute


def install(world: World) -> None:
    """Register the models, and the hooks for properties that moto's own models drop."""
    register_model(_alarm_model(world))
    register_model(simple_model("AWS::SQS::QueuePolicy", "", _put_queue_policies(world)))
    register_model(simple_model("AWS::EC2::SecurityGroupEgress", "", _put_egress_rule(world)))

    default_properties("AWS::SSM::Document", {"DocumentFormat": "JSON", "DocumentType": "Command"})

    def keep_policies(role: Any, properties: Mapping[str, Any]) -> None:
        for name, document in role.policies.items():
            # moto keeps the template's object, and would show its repr to whoever asks for the policy.
            role.policies[name] = document if isinstance(document, str) else json.dumps(document)
        for arn in properties.get("ManagedPolicyArns", []):
            iam_backends[world.account_id]["aws"].attach_role_policy(arn, role.name)

    def set_time_to_live(table: Any, properties: Mapping[str, Any]) -> None:
        if given := properties.get("TimeToLiveSpecification"):
            dynamodb_backends[world.account_id][world.region].update_time_to_live(table.name, given)

    def keep_document_as_json(document: Any, properties: Mapping[str, Any]) -> None:
        # moto keeps the repr of a parsed document, which nothing can read again.
        if isinstance(properties.get("Content"), dict):
            document.content = json.dumps(properties["Content"])

    def keep_function_settings(function: Any, properties: Mapping[str, Any]) -> None:
        function.architectures = properties.get("Architectures", ["x86_64"])
        function.tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        if group := properties.get("LoggingConfig", {}).get("LogGroup"):
            function.logs_group_name = group

    _end_log_group_arns_as_aws_does()
    after_create("AWS::IAM::Role", keep_policies)
    after_create("AWS::DynamoDB::Table", set_time_to_live)
    after_create("AWS::SSM::Document", keep_document_as_json)
    after_create("AWS::Lambda::Function", keep_function_settings)
