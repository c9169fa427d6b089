"""Requests in numbers, for the report. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from local_aws.demo.answers import RequestKind, RequestRecord, attempts_that_failed
from local_aws.demo.interruptions import Interruption, as_json_value

MAX_FAILURES_LISTED = 50


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` (0 to 1) of all values do not exceed; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return count, p50, p90, p99 and max."""
    return {
        "count": len(values),
        "p50": percentile(values, 0.50),
        "p90": percentile(values, 0.90),
        "p99": percentile(values, 0.99),
        "max": max(values, default=None),
    }


def summarize(records: Sequence[RequestRecord], interruptions: Sequence[Interruption]) -> dict[str, Any]:
    """Return the report's `requests`."""
    failed = [record for record in records if not record.complete]
    whole = [record for record in records if record.complete]
    during = [record for record in whole if _met_an_incident(record, interruptions)]
    calm = [record for record in whole if not _met_an_incident(record, interruptions)]
    kinds = Counter(record.kind for record in records)
    return {
        "total": len(records),
        "succeeded": len(whole),
        "failed": len(failed),
        "retried": sum(record.retried for record in records),
        "attempts": sum(len(record.attempts) for record in records),
        "failed_attempts": attempts_that_failed(records),
        "by_kind": {kind.value: kinds[kind] for kind in RequestKind},
        "tokens": sum(record.max_tokens for record in whole),
        "latency_seconds": {
            "all": spread([record.seconds for record in whole]),
            "calm": spread([record.seconds for record in calm]),
            "during_incidents": spread([record.seconds for record in during]),
        },
        "time_to_first_token_seconds": {
            "calm": spread(_first_token_seconds(calm)),
            "during_incidents": spread(_first_token_seconds(during)),
        },
        "failures": [_failure(record) for record in failed[:MAX_FAILURES_LISTED]],
    }


def _met_an_incident(record: RequestRecord, interruptions: Sequence[Interruption]) -> bool:
    """Whether the request was in flight between a notice and the end of its recovery."""
    for each in interruptions:
        recovered = each.replacement_in_service_at
        if record.ended_at >= each.noticed_at.timestamp() and (
            recovered is None or record.started_at <= recovered.timestamp()
        ):
            return True
    return False


def _first_token_seconds(records: Sequence[RequestRecord]) -> list[float]:
    return [r.first_token_at - r.started_at for r in records if r.first_token_at is not None]


def _failure(record: RequestRecord) -> dict[str, Any]:
    return {
        "client": record.client,
        "number": record.number,
        "kind": record.kind.value,
        "started_at": as_json_value(datetime.fromtimestamp(record.started_at, UTC)),
        "seconds": record.seconds,
        "outcome": record.judgement.outcome.value,
        "reason": record.judgement.reason,
        "attempts": [str(attempt) for attempt in record.attempts],
    }
