"""What nodes printed for their commands, read once for all nodes of a command in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from spot_failover.errors import AwsCallError, RetryableAwsError, aws_call

from track_incident.events import CommandStatus

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

ACTION = "ssm:ListCommandInvocations"
ENDED = frozenset(status.value for status in CommandStatus if status.is_final)
PAGE_SIZE: Final = 50  # the most that a page can have, by the API reference


class CommandOutputs:
    """The outputs of one batch's commands. One call shows those of fifty nodes, as many as a command has."""

    def __init__(self, ssm: SSMClient) -> None:
        self._ssm = ssm
        self._read: dict[str, dict[str, str] | AwsCallError] = {}

    def of(self, command_id: str, instance_id: str) -> str:
        """Return what a node printed until its command ended, its errors last: the first 2,500 characters.

        Raises AwsCallError; it is one to be retried while Systems Manager does not show that end.
        """
        if command_id not in self._read:
            try:
                self._read[command_id] = self._list(command_id)
            except AwsCallError as error:
                self._read[command_id] = error
        outputs = self._read[command_id]
        if isinstance(outputs, AwsCallError):
            raise outputs
        if instance_id not in outputs:
            raise RetryableAwsError(ACTION, "NotShownYet", f"{command_id} on {instance_id} has not ended")
        return outputs[instance_id]

    def _list(self, command_id: str) -> dict[str, str]:
        with aws_call(ACTION):
            paginator = self._ssm.get_paginator("list_command_invocations")
            pages = list(
                paginator.paginate(
                    CommandId=command_id, Details=True, PaginationConfig={"PageSize": PAGE_SIZE}
                )
            )
        return {
            one["InstanceId"]: "".join(plugin.get("Output", "") for plugin in one.get("CommandPlugins", []))
            for page in pages
            for one in page["CommandInvocations"]
            if one["Status"] in ENDED
        }
