"""CloudFormation as the template needs it: nothing is skipped, and what moto has no model for gets one.

Stock moto warns about a resource type it does not know and goes on. Here such a type fails the deployment,
unless a model is registered for it, or it is in `RECORDED_TYPES`: types whose effect nobody can observe here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel
from moto.logs import models as logs_models

from local_aws.world import World

AfterCreate = Callable[[Any, Mapping[str, Any]], None]

# Watching and describing, not doing: a deployment without their effect behaves the same on this machine.
RECORDED_TYPES = frozenset(
    {
        "AWS::ApplicationInsights::Application",
        "AWS::CDK::Metadata",
        "AWS::CloudWatch::AnomalyDetector",
        "AWS::CloudWatch::CompositeAlarm",
        "AWS::EC2::FlowLog",
        "AWS::FIS::ExperimentTemplate",
        # nobody builds a machine image here: a baked fleet's is named by its parameter
        "AWS::ImageBuilder::Component",
        "AWS::ImageBuilder::DistributionConfiguration",
        "AWS::ImageBuilder::ImagePipeline",
        "AWS::ImageBuilder::ImageRecipe",
        "AWS::ImageBuilder::InfrastructureConfiguration",
        "AWS::ImageBuilder::LifecyclePolicy",
        "AWS::Logs::MetricFilter",
        "AWS::Logs::QueryDefinition",
        "AWS::ResourceGroups::Group",
        # moto would apply its statements without their conditions, and refuse every upload
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicPolicy",
    }
)

_models: dict[str, type[CloudFormationModel]] = {}
_defaults: dict[str, dict[str, Any]] = {}
_after_create: dict[str, list[AfterCreate]] = {}


def register_model(model: type[CloudFormationModel]) -> None:
    """Create resources of `model.cloudformation_type()` with this class, instead of moto's if it has one."""
    _models[model.cloudformation_type()] = model


def after_create(resource_type: str, hook: AfterCreate) -> None:
    """Call `hook(resource, properties)` once such a resource is created: for what moto's model drops."""
    _after_create.setdefault(resource_type, []).append(hook)


def default_properties(resource_type: str, defaults: Mapping[str, Any]) -> None:
    """Give properties that a template may leave out the values that AWS documents for them."""
    _defaults[resource_type] = dict(defaults)


class RecordedResource(CloudFormationModel):  # type: ignore[misc] # moto is untyped here
    """A resource that is written down and does nothing."""

    created: list[RecordedResource] = []  # noqa: RUF012 - one per process, like moto's own backends

    def __init__(self, *, name: str, resource_type: str, properties: Mapping[str, Any], arn: str) -> None:
        self.physical_resource_id = name
        self.resource_type = resource_type
        self.properties = properties
        self.arn = arn

    @staticmethod
    def cloudformation_type() -> str:
        """Return a name no template uses: this class stands in for many types."""
        return "LocalAws::Recorded::Resource"

    @staticmethod
    def cloudformation_name_type() -> str:
        """Return nothing: names are generated."""
        return ""

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **kwargs: Any
    ) -> RecordedResource:
        """Write the resource down."""
        resource_type = kwargs["ResourceType"]
        service, kind = resource_type.split("::")[1:3]
        resource = cls(
            name=resource_name,
            resource_type=resource_type,
            properties=cloudformation_json.get("Properties", {}),
            arn=f"arn:aws:{service.lower()}:{region_name}:{account_id}:{kind.lower()}/{resource_name}",
        )
        cls.created.append(resource)
        return resource

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Only the ARN can be asked for: other attributes would have to be made up."""
        return attr == "Arn"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """Return the ARN."""
        if attribute_name != "Arn":
            raise ValidationError(
                message=f"the local AWS only records {self.resource_type}: no attribute {attribute_name}"
            )
        return self.arn


def _model_for(resource_type: str) -> type[CloudFormationModel]:
    if resource_type in _models:
        return _models[resource_type]
    if resource_type in RECORDED_TYPES:
        return RecordedResource
    moto_model = parsing.get_model_map().get(resource_type)
    if moto_model is None:
        raise ValidationError(message=f"the local AWS has no model for the resource type {resource_type}")
    return moto_model  # type: ignore[no-any-return]


def _name_property_for(resource_type: str) -> str | None:
    return _model_for(resource_type).cloudformation_name_type()  # type: ignore[no-any-return]


def _create(
    logical_id: str, resource_json: dict[str, Any], resources_map: Any, account_id: str, region_name: str
) -> Any:
    properties = {**_defaults.get(resource_json["Type"], {}), **resource_json.get("Properties", {})}
    resource_json = {**resource_json, "Properties": properties}
    try:
        resource = _moto_create(logical_id, resource_json, resources_map, account_id, region_name)
    except ValidationError:
        raise
    except Exception as err:
        # Whatever moto stumbles over, the deployer must read which resource it was.
        raise ValidationError(
            message=f"{logical_id} ({resource_json['Type']}): {type(err).__name__}: {err}"
        ) from err
    hooks = _after_create.get(resource_json["Type"], [])
    if hooks and resource is not None:
        properties = parsing.clean_json(resource_json, resources_map).get("Properties", {})
        for hook in hooks:
            hook(resource, properties)
    return resource


_moto_create = parsing.parse_and_create_resource


def install(world: World) -> None:
    """Put the seam in, before the first stack."""
    assert logs_models.LogGroup  # its import is what registers AWS::Logs::LogGroup
    parsing.resource_class_from_type = _model_for
    parsing.resource_name_property_from_type = _name_property_for
    parsing.parse_and_create_resource = _create
    for cache in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cache.cache_clear()
    world.route("GET", "recorded-resources", lambda _: _recorded())


def _recorded() -> list[dict[str, Any]]:
    return [
        {"type": each.resource_type, "name": each.physical_resource_id, "properties": each.properties}
        for each in RecordedResource.created
    ]
