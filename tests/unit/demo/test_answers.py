"""Only an answer that ended as it should, with every token asked for and in time, counts as whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from local_aws.demo.answers import Answer, RequestOutcome, judge

WHOLE = Answer(text_length=50, finish_reason="length", completion_tokens=50, ended_with_done=True)


@pytest.mark.parametrize("finish_reason", ["length", "stop"])
@pytest.mark.parametrize("ended_with_done", [True, None])
def test_whole_answer(finish_reason: str, ended_with_done: bool | None) -> None:
    answer = replace(WHOLE, finish_reason=finish_reason, ended_with_done=ended_with_done)
    assert (
        judge(answer, expected_tokens=50, seconds=5, patience_seconds=60).outcome is RequestOutcome.COMPLETE
    )


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"finish_reason": "abort"}, RequestOutcome.ABORTED),
        ({"finish_reason": None}, RequestOutcome.CUT_SHORT),
        ({"finish_reason": "tool_calls"}, RequestOutcome.CUT_SHORT),
        ({"ended_with_done": False}, RequestOutcome.CUT_SHORT),
        ({"text_length": 0}, RequestOutcome.EMPTY),
        ({"completion_tokens": 49}, RequestOutcome.WRONG_LENGTH),
        ({"completion_tokens": 51}, RequestOutcome.WRONG_LENGTH),
        ({"completion_tokens": None}, RequestOutcome.WRONG_LENGTH),
    ],
)
def test_answer_that_lacks_something_is_lost(change: dict[str, object], outcome: RequestOutcome) -> None:
    judgement = judge(replace(WHOLE, **change), expected_tokens=50, seconds=5, patience_seconds=60)  # type: ignore[arg-type]
    assert judgement.outcome is outcome
    assert judgement.reason


def test_answer_that_comes_too_late_is_lost() -> None:
    assert (
        judge(WHOLE, expected_tokens=50, seconds=61, patience_seconds=60).outcome is RequestOutcome.TOO_SLOW
    )
