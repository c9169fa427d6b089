"""What becomes of each message: consumed, seen again within seconds, or dead-lettered with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from spot_failover.errors import AwsCallError, RetryLaterError, aws_call
from spot_failover.outcomes import Disposition
from spot_failover.telemetry import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_sqs import SQSClient

BACKOFF_SECONDS = (1, 2, 4, 8)  # by the number of times a message was received; the last one repeats
REASON_LIMIT = 500  # characters


@dataclass(frozen=True)
class Settlement:
    """What is to become of one message, and why."""

    disposition: Disposition
    reason: str = ""


def backoff_seconds(receive_count: int) -> int:
    """Return for how long a message that was received so often stays invisible."""
    return BACKOFF_SECONDS[max(0, min(receive_count, len(BACKOFF_SECONDS)) - 1)]


class MessageSettler:
    """Carries settlements out, message by message: none can fail another."""

    def __init__(self, sqs: SQSClient, *, queue_url: str, dead_letter_queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._dead_letter_queue_url = dead_letter_queue_url

    def settle(
        self, event: Mapping[str, Any], context: Any, settlements: Mapping[str, Settlement]
    ) -> PartialItemFailureResponse:
        """Carry out each message's settlement, by message id, and return Lambda's partial batch response."""

        def settle_one(record: SQSRecord) -> None:
            self._settle_one(record, settlements[record.message_id])

        # A batch of nothing but retries is not an error of the function: its alarm would ring for no reason.
        processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        return process_partial_response(
            event=dict(event), record_handler=settle_one, processor=processor, context=context
        )

    def _settle_one(self, record: SQSRecord, settlement: Settlement) -> None:
        match settlement.disposition:
            case Disposition.DONE:
                return
            case Disposition.RETRY:
                self._see_again_soon(record)
                raise RetryLaterError(settlement.reason)
            case Disposition.DEAD_LETTER:
                self._bury(record, settlement.reason)
            case _:
                assert_never(settlement.disposition)

    def _see_again_soon(self, record: SQSRecord) -> None:
        delay = backoff_seconds(int(record.attributes.approximate_receive_count))
        try:
            with aws_call("sqs:ChangeMessageVisibility"):
                self._sqs.change_message_visibility(
                    QueueUrl=self._queue_url, ReceiptHandle=record.receipt_handle, VisibilityTimeout=delay
                )
        except AwsCallError as error:
            # It comes back all the same, when the queue's own visibility timeout ends.
            logger.warning("a retry comes late", message_id=record.message_id, error=str(error))

    def _bury(self, record: SQSRecord, reason: str) -> None:
        # Message attributes cannot carry every character that a message can.
        shown = ascii(reason)[1:-1][:REASON_LIMIT] or "unknown"
        try:
            with aws_call("sqs:SendMessage"):
                self._sqs.send_message(
                    QueueUrl=self._dead_letter_queue_url,
                    MessageBody=record.body,
                    MessageAttributes={"reason": {"DataType": "String", "StringValue": shown}},
                )
        except AwsCallError as error:
            logger.exception(
                "a message could not be dead-lettered", message_id=record.message_id, error=str(error)
            )
            raise RetryLaterError(str(error)) from error
