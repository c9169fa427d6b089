"""The boot budget's arithmetic; the figures themselves are data."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.node import figures
from bench.node.boot_budget import Choice, main, render, rows, table, total, transfer, worst_total
from bench.node.figures import GB, Basis, Figure
from infra.fleet_context import DEFAULT_ENGINE_ARGS


def figure(value: float, *, worst: float | None = None, basis: Basis = Basis.DOCUMENTED) -> Figure:
    return Figure(value, "a source", basis, worst=worst)


def test_a_transfer_is_bytes_over_bandwidth_and_at_worst_the_most_at_the_lowest() -> None:
    took = transfer(figure(10 * GB, worst=12 * GB), figure(100e6, worst=50e6))
    assert (took.value, took.at_worst) == (100, 240)


@pytest.mark.parametrize(
    ("size", "rate", "together"),
    [
        (Basis.DOCUMENTED, Basis.MEASURED, Basis.MEASURED),
        (Basis.ESTIMATED, Basis.DOCUMENTED, Basis.ESTIMATED),
        (Basis.DOCUMENTED, Basis.ESTIMATED, Basis.ESTIMATED),
    ],
)
def test_what_rests_on_an_estimate_is_one(size: Basis, rate: Basis, together: Basis) -> None:
    assert transfer(figure(1, basis=size), figure(1, basis=rate)).basis is together


def test_phases_side_by_side_count_once_by_the_longest() -> None:
    fetched = [row for row in rows(Choice.RATE_STORE) if row.phase in ("compile_cache", "weights")]
    assert len(fetched) == 2
    counted = [row for row in fetched if row.counted]
    assert [row.phase for row in counted] == ["weights"]
    assert counted[0].seconds == max(row.seconds for row in fetched)


@pytest.mark.parametrize("choice", list(Choice))
def test_a_sum_holds_all_that_follows_one_another_and_no_more(choice: Choice) -> None:
    found = rows(choice)
    everything = sum(row.seconds for row in found)
    beside = sum(row.seconds for row in found if not row.counted)
    assert total(choice) == pytest.approx(everything - beside)
    assert worst_total(choice) >= total(choice)


@pytest.mark.parametrize("choice", list(Choice))
def test_every_row_names_its_source_and_its_bytes_fit_its_seconds(choice: Choice) -> None:
    for row in rows(choice):
        assert row.source
        assert 0 < row.seconds <= row.worst_seconds
        if row.bytes is not None:
            assert row.bandwidth is not None
            assert row.seconds == pytest.approx(row.bytes / row.bandwidth)


def test_at_worst_a_volume_is_filled_in_the_wrong_order() -> None:
    read = next(row for row in rows(Choice.RATE_STREAM) if row.part.startswith("container"))
    whole_disk = figures.SNAPSHOT.value / figures.EBS_INITIALIZED_AT_300.value
    assert read.worst_seconds == pytest.approx(whole_disk)
    assert whole_disk > figures.BUDGET_SECONDS


def test_the_plain_image_has_no_chance_and_baking_saves_most_of_it() -> None:
    assert total(Choice.PLAIN_HUB) > 3 * figures.BUDGET_SECONDS
    assert total(Choice.RATE_STREAM) < total(Choice.PLAIN_HUB) / 2


def test_the_printed_table_shows_every_choice_with_its_sum_against_the_budget() -> None:
    console = Console(file=io.StringIO(), width=200)
    render(console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for choice in Choice:
        assert choice.value in text
        assert f"{figures.BUDGET_SECONDS - total(choice):+.0f}" in text


def test_json_holds_the_same_rows_and_sums(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["rows"]) == len(table())
    assert printed["sums"][Choice.RATE_STREAM.value]["seconds"] == total(Choice.RATE_STREAM)


def test_the_decision_on_the_image_states_these_figures() -> None:
    decision = "0220-the-image-holds-the-container-and-s3-the-weights.md"
    text = " ".join(
        (Path(__file__).parents[3] / "docs/decisions" / decision).read_text(encoding="utf-8").split()
    )
    assert f"on an L40S the sum is {total(Choice.RATE_STREAM):.0f} s" in text
    assert f"vLLM's own of 2026 it is {total(Choice.RECENT_STREAM):.0f}." in text
    for size, rate in (
        (figures.CONTAINER_COMPRESSED, figures.REGISTRY),
        (figures.CONTAINER_READ, figures.EBS_INITIALIZED_AT_300),
        (figures.SNAPSHOT, figures.EBS_INITIALIZED_AT_300),
        (figures.CONTAINER_READ, figures.EBS_READY),
        (figures.WEIGHTS, figures.EBS_INITIALIZED_AT_300),
        (figures.WEIGHTS, figures.HUB),
        (figures.WEIGHTS, figures.S3_STREAM),
    ):
        stated = f"{size.value / GB:.1f}".removesuffix(".0") + f" GB ÷ {rate.value / 1e6:.0f} MB/s"
        assert f"{stated} | {size.value / rate.value:.0f} |" in text


def test_the_budget_counts_as_many_graphs_as_a_fleets_default_arguments_capture() -> None:
    arguments = DEFAULT_ENGINE_ARGS[DEFAULT_ENGINE_ARGS.index("--cudagraph-capture-sizes") + 1 :]
    sizes = list(itertools.takewhile(str.isdigit, arguments))
    assert f"{len(sizes)} sizes captured" in figures.CAPTURE_FEW.source
