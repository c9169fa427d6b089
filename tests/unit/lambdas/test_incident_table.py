"""The incidents table gives back what was put in, and lets two instances belong to each other once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from spot_failover import incident_table
from spot_failover.errors import PermanentAwsError, RetryableAwsError
from spot_failover.incident_table import Claim, IncidentTable
from spot_failover.incidents import Entry
from spot_failover.outcomes import Outcome, Step

from tests.unit.lambdas.fake_aws import NOTICED, Aws
from tests.unit.lambdas.fake_services import client, client_error

DETAIL: dict[str, Any] = {
    "text": "ä",
    "count": 7,
    "ratio": 0.125,
    "flag": True,
    "nothing": None,
    "list": [1, {"a": "b"}],
}


def entry(incident: str, *, second: float = 1, fleet: str = "chat", **detail: Any) -> Entry:
    return Entry(
        incident=incident,
        fleet=fleet,
        at=NOTICED + timedelta(seconds=second),
        step=Step.DEREGISTER,
        outcome=Outcome.DEREGISTERED,
        noticed_at=NOTICED,
        deadline=NOTICED + timedelta(seconds=120),
        detail=detail,
    )


@pytest.fixture
def table(aws: Aws) -> IncidentTable:
    return IncidentTable(aws.dynamodb, table="incidents", ttl=timedelta(days=90))


def test_an_entry_comes_back_as_it_was(table: IncidentTable) -> None:
    written = entry("i-1", second=1.234, **DETAIL)
    table.write([written])
    incident = table.incident("i-1")
    assert incident is not None
    assert incident.entries == (written,)
    assert table.incident("i-2") is None


def test_an_item_has_the_tables_keys_and_expires_after_its_time(table: IncidentTable) -> None:
    table.write([entry("i-1", second=1.234)])
    (item,) = client("dynamodb").scan(TableName="incidents")["Items"]
    assert item["incident"] == {"S": "i-1"}
    assert item["entry"] == {"S": "2026-11-23T13:38:01.234Z#deregister"}
    expires_at = NOTICED + timedelta(seconds=120, days=90)
    assert item["expires_at"] == {"N": str(int(expires_at.timestamp()))}


def test_sixty_entries_are_three_calls_and_nothing_is_no_call(aws: Aws, table: IncidentTable) -> None:
    table.write([])
    assert aws.journal.calls == []
    table.write([entry(f"i-{number}") for number in range(60)])
    assert [len(call["RequestItems"]["incidents"]) for call in aws.journal.of("batch_write_item")] == [
        25,
        25,
        10,
    ]
    assert len(table.incidents_of_fleet("chat", since=NOTICED)) == 60


def test_the_same_entry_twice_in_a_batch_is_one_item(table: IncidentTable) -> None:
    table.write([entry("i-1"), entry("i-1")])
    incident = table.incident("i-1")
    assert incident is not None
    assert len(incident.entries) == 1


def test_a_fleets_incidents_leave_out_other_fleets_older_ones_and_claims(table: IncidentTable) -> None:
    table.write([entry("i-1"), entry("i-2", fleet="code"), entry("i-3", second=-60)])
    assert table.claim_replacement(entry("i-4"), replacement="i-9") is Claim.MADE
    incidents = table.incidents_of_fleet("chat", since=NOTICED)
    assert [incident.incident for incident in incidents] == ["i-1", "i-4"]


def test_two_instances_belong_to_each_other_once(table: IncidentTable) -> None:
    assert table.claim_replacement(entry("i-1"), replacement="i-9") is Claim.MADE
    assert table.claim_replacement(entry("i-1"), replacement="i-8") is Claim.DEPARTURE_TAKEN
    assert table.claim_replacement(entry("i-2"), replacement="i-9") is Claim.REPLACEMENT_TAKEN
    assert table.claim_replacement(entry("i-1"), replacement="i-9") is Claim.REPLACEMENT_TAKEN
    assert table.incident("i-2") is None
    assert table.claim_replacement(entry("i-2"), replacement="i-8") is Claim.MADE


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        (["TransactionConflict", "None", "None"], RetryableAwsError),
        (["None", "ThrottlingError", "None"], RetryableAwsError),
        (["ProvisionedThroughputExceeded", "None", "None"], RetryableAwsError),
        (["None", "None", "ValidationError"], PermanentAwsError),
    ],
)
def test_a_transaction_that_fails_otherwise_is_an_error(
    reasons: list[str], kind: type[Exception], monkeypatch: pytest.MonkeyPatch, aws: Aws
) -> None:
    error = client_error("TransactWriteItems", "TransactionCanceledException")
    error.response["CancellationReasons"] = [{"Code": code} for code in reasons]

    class Refusing:
        def transact_write_items(self, **_: Any) -> None:
            raise error

    refusing: Any = Refusing()
    with pytest.raises(kind):
        IncidentTable(refusing, table="incidents", ttl=timedelta(days=1)).claim_replacement(
            entry("i-1"), replacement="i-9"
        )


def test_a_refused_item_and_a_throttled_batch_keep_no_other_entry_from_the_table(
    aws: Aws, table: IncidentTable
) -> None:
    def of(*incidents: str) -> Any:
        def when(call: Any) -> bool:
            items = [one["PutRequest"]["Item"]["incident"]["S"] for one in call["RequestItems"]["incidents"]]
            return bool({*incidents} & {*items})

        return when

    entries = [entry(f"i-{number}") for number in range(80)]
    aws.journal.fail("batch_write_item", "ValidationException", when=of("i-3"))
    aws.journal.fail("batch_write_item", "ThrottlingException", when=of("i-30"))
    failed = table.write_each(entries)
    assert failed.keys() == {3, *range(25, 50)}
    assert isinstance(failed[3], PermanentAwsError)
    assert isinstance(failed[30], RetryableAwsError)
    written = {one.incident for one in table.incidents_of_fleet("chat", since=NOTICED)}
    assert written == {one.incident for index, one in enumerate(entries) if index not in failed}


def test_a_table_that_hangs_is_not_waited_for_batch_after_batch(
    aws: Aws, table: IncidentTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_table, "LONGEST_SECONDS", 0)
    aws.journal.fail("batch_write_item", "RequestTimeout")
    assert len(table.write_each([entry(f"i-{number}") for number in range(80)])) == 80
    assert len(aws.journal.of("batch_write_item")) == 1


class Leaving:
    """Leaves items over, as DynamoDB does under load."""

    def __init__(self, *leftovers: int) -> None:
        self.leftovers = list(leftovers)
        self.sizes: list[int] = []

    def batch_write_item(self, **parameters: Any) -> Any:
        requests = parameters["RequestItems"]["incidents"]
        self.sizes.append(len(requests))
        return {"UnprocessedItems": {"incidents": requests[: self.leftovers.pop(0)]}}


def test_items_left_over_are_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident_table, "UNPROCESSED_PAUSES", (0, 0))
    leaving: Any = Leaving(2, 1, 0)
    table = IncidentTable(leaving, table="incidents", ttl=timedelta(days=1))
    table.write([entry(f"i-{number}") for number in range(3)])
    assert leaving.sizes == [3, 2, 1]


def test_items_left_over_to_the_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident_table, "UNPROCESSED_PAUSES", (0, 0))
    leaving: Any = Leaving(1, 1, 1)
    with pytest.raises(RetryableAwsError, match="1 left over"):
        IncidentTable(leaving, table="incidents", ttl=timedelta(days=1)).write([entry("i-1")])
