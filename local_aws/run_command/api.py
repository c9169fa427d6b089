"""Systems Manager's calls about commands and managed nodes, with AWS's checks and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import ec2_backends
from moto.ssm.exceptions import SSMException
from moto.ssm.models import SimpleSystemManagerBackend
from moto.ssm.responses import SimpleSystemManagerResponse

from local_aws.moto_override import extend, override, wrap
from local_aws.nodes.registry import Node
from local_aws.run_command.agents import AGENT_VERSION, RunCommand
from local_aws.run_command.documents import (
    InvalidParametersError,
    UnsupportedDocumentError,
    linux_steps,
    resolve_parameters,
)
from local_aws.run_command.invocations import Command, Invocation
from local_aws.run_command.public_documents import PUBLIC_DOCUMENTS, VERSION
from local_aws.world import World

_MOST_INSTANCES = 50
_LEAST_TIMEOUT_SECONDS, _DEFAULT_TIMEOUT_SECONDS = 30, 3600
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8}(?:[0-9a-f]{9})?")


def apply_overrides(world: World, commands: RunCommand) -> None:
    """Let moto's SSM API act on the agents."""
    _keep_documents_readable()
    _override_sending(world, commands)
    _override_reading(commands)
    _add_managed_nodes(world, commands)


def _keep_documents_readable() -> None:
    def generate(original: Any, backend: Any, ssm_document: Any, document_format: str) -> Any:
        # moto keeps what CloudFormation gave as a parsed document; GetDocument's content is text.
        answer = original(backend, ssm_document, document_format)
        if isinstance(answer["Content"], dict):
            answer["Content"] = json.dumps(answer["Content"])
        return answer

    wrap(SimpleSystemManagerBackend, "_generate_document_information", generate)


def check_request(instance_ids: Sequence[str], timeout_seconds: int) -> None:
    """Raise SSM's errors for what SendCommand does not take, whatever the nodes are."""
    if len(instance_ids) > _MOST_INSTANCES:
        raise SSMException(
            "ValidationException",
            "Value at 'instanceIds' failed to satisfy constraint: "
            f"Member must have length less than or equal to {_MOST_INSTANCES}",
        )
    if any(_INSTANCE_ID.fullmatch(instance_id) is None for instance_id in instance_ids):
        raise SSMException("ValidationException", "Value at 'instanceIds' failed to satisfy constraint")
    if timeout_seconds < _LEAST_TIMEOUT_SECONDS:
        raise SSMException(
            "ValidationException",
            f"Value '{timeout_seconds}' at 'timeoutSeconds' failed to satisfy constraint: "
            f"Member must have value greater than or equal to {_LEAST_TIMEOUT_SECONDS}",
        )


def _override_sending(world: World, commands: RunCommand) -> None:
    @override(SimpleSystemManagerResponse)
    def send_command(self: Any) -> ActionResult:
        instance_ids = list(dict.fromkeys(self._get_param("InstanceIds", [])))
        targets = self._get_param("Targets", [])
        timeout = self._get_int_param("TimeoutSeconds") or _DEFAULT_TIMEOUT_SECONDS
        check_request(instance_ids, timeout)
        name = self._get_param("DocumentName")
        content, version = _document(self.ssm_backend, name)
        parameters = self._get_param("Parameters", {})
        try:
            values = resolve_parameters(content, parameters)
            steps = linux_steps(content, values)
        except InvalidParametersError as err:
            raise SSMException("InvalidParameters", str(err)) from err
        except UnsupportedDocumentError as err:
            raise NotImplementedError(f"{name}: the local AWS does not emulate {err}") from err
        nodes = _targeted(world, commands, targets) if targets else _named(world, commands, instance_ids)
        command = Command(
            document_name=name,
            document_version=version,
            parameters=parameters,
            steps=steps,
            comment=self._get_param("Comment", ""),
            timeout_seconds=timeout,
            targets=targets,
        )
        commands.send(command, nodes)
        return ActionResult({"Command": command.description()})

    @extend(SimpleSystemManagerResponse)
    def cancel_command(self: Any) -> ActionResult:
        commands.cancel(_find(commands, self._get_param("CommandId")), self._get_param("InstanceIds"))
        return EmptyResult()


def _document(backend: Any, name: str) -> tuple[Mapping[str, Any], str]:
    """Return a document's content and version: one of AWS's own, or of the account's."""
    if (content := PUBLIC_DOCUMENTS.get(name)) is not None:
        return content, VERSION
    document = backend._get_documents(name).get_default_version()
    return document.content_json, document.document_version


def _named(world: World, commands: RunCommand, instance_ids: Sequence[str]) -> list[Node]:
    found = {instance_id: commands.managed(instance_id) for instance_id in instance_ids}
    missing = [instance_id for instance_id, node in found.items() if node is None]
    if missing or not found:
        raise SSMException(
            "InvalidInstanceId",
            f"Instances [[{', '.join(missing)}]] not in a valid state for account {world.account_id}",
        )
    return [node for node in found.values() if node is not None]


def _targeted(world: World, commands: RunCommand, targets: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Return the online nodes that fit all targets, given by instance ids or tags; it may be none."""
    ec2 = ec2_backends[world.account_id][world.region]

    def fits(node: Node, target: Mapping[str, Any]) -> bool:
        if target["Key"].lower() == "instanceids":
            return node.instance_id in target["Values"]
        kind, _, key = target["Key"].partition(":")
        if kind != "tag":
            raise NotImplementedError(f"the local AWS does not emulate the target {target['Key']}")
        tags = {tag["key"]: tag["value"] for tag in ec2.get_instance(node.instance_id).get_tags()}
        return tags.get(key) in target["Values"]

    return [node for node in commands.managed_nodes() if all(fits(node, target) for target in targets)]


def _find(commands: RunCommand, command_id: str) -> Command:
    command = commands.commands.get(command_id)
    if command is None:
        raise SSMException("InvalidCommandId", "The specified command ID isn't valid.")
    return command


def _override_reading(commands: RunCommand) -> None:
    def chosen(response: Any) -> list[Command]:
        command_id, instance_id = response._get_param("CommandId"), response._get_param("InstanceId")
        if command_id:
            return [_find(commands, command_id)]
        newest_first = reversed(list(commands.commands.values()))
        return [c for c in newest_first if instance_id is None or instance_id in c.invocations]

    @override(SimpleSystemManagerResponse)
    def list_commands(self: Any) -> ActionResult:
        return ActionResult({"Commands": [command.description() for command in chosen(self)]})

    @override(SimpleSystemManagerResponse)
    def get_command_invocation(self: Any) -> ActionResult:
        command_id, instance_id = self._get_param("CommandId"), self._get_param("InstanceId")
        command = commands.commands.get(command_id)
        invocation = command.invocations.get(instance_id) if command else None
        plugin = self._get_param("PluginName")
        if invocation is None or plugin not in (None, invocation.plugin):
            raise SSMException("InvocationDoesNotExist", "")
        return ActionResult(invocation.description())

    @extend(SimpleSystemManagerResponse)
    def list_command_invocations(self: Any) -> ActionResult:
        instance_id, details = self._get_param("InstanceId"), bool(self._get_param("Details", False))
        found: list[Invocation] = [
            invocation
            for command in chosen(self)
            for invocation in command.invocations.values()
            if instance_id in (None, invocation.instance_id)
        ]
        return ActionResult({"CommandInvocations": [i.summary(details=details) for i in found]})


def _add_managed_nodes(world: World, commands: RunCommand) -> None:
    @extend(SimpleSystemManagerResponse)
    def describe_instance_information(self: Any) -> ActionResult:
        wanted = _wanted_instances(self)
        return ActionResult(
            {
                "InstanceInformationList": [
                    _information(node)
                    for node in commands.managed_nodes()
                    if wanted is None or node.instance_id in wanted
                ]
            }
        )

    def _wanted_instances(response: Any) -> set[str] | None:
        wanted: set[str] | None = None
        for given in response._get_param("Filters", []):
            key, values = given["Key"], set(given["Values"])
            if key.startswith("tag:"):
                nodes = _targeted(world, commands, [{"Key": key, "Values": list(values)}])
                values = {node.instance_id for node in nodes}
            elif key == "PingStatus":
                values = {n.instance_id for n in commands.managed_nodes()} if "Online" in values else set()
            elif key != "InstanceIds":
                raise NotImplementedError(f"the local AWS does not emulate the filter {key}")
            wanted = values if wanted is None else wanted & values
        return wanted


def _information(node: Node) -> dict[str, Any]:
    return {
        "InstanceId": node.instance_id,
        "PingStatus": "Online",
        "AgentVersion": AGENT_VERSION,
        "IsLatestVersion": True,
        "PlatformType": "Linux",
        "PlatformName": "Amazon Linux",
        "PlatformVersion": "2023",
        "ResourceType": "EC2Instance",
        "IPAddress": node.address,
    }
