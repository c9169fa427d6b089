"""Two rounds of the endurance run: nodes go one after another, and no client notices."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from rich.console import Console

from bench.endurance.options import PROFILES
from bench.endurance.processes import Part
from bench.endurance.run import RoundsOnly, under_traffic
from local_aws.demo.fleet_watch import FleetWatch
from local_aws.demo.scenario import await_fleet
from tests.local.failover.deployed_fleet import NOTICE_SECONDS, DeployedFleet


def test_two_nodes_go_one_after_another_and_no_request_is_lost(fleet: DeployedFleet) -> None:
    profile = replace(
        PROFILES["emulated"],
        nodes=2,
        notice_seconds=NOTICE_SECONDS,
        client_processes=1,
        clients=8,
        requests_per_second=20.0,
        witness=False,
    )
    told: list[str] = []
    with FleetWatch(fleet.control, RoundsOnly(Console(quiet=True), "")) as watch, ExitStack() as stack:
        await_fleet(watch, nodes=2, out=fleet.aws.state_dir)
        stage = stack.enter_context(
            under_traffic(fleet.aws, watch, profile=profile, incidents_table=fleet.table_name)
        )
        stage.rounds.play(2, tell=lambda done: told.append(done.instance_id))
        records = stage.clients.stop()
        taken = stage.rounds.interruptions(end=records[-1].ended_at)
        samples = stage.sampler.samples()
    assert [record for record in records if not record.complete] == []
    assert len(records) >= 20
    assert told == [each.instance_id for each in taken]
    assert len(set(told)) == 2
    for each in taken:
        assert each.replacement_in_service_at is not None
        assert each.deregistered_at is not None
        assert each.drain_requested_at is not None
        assert each.capacity_restored
        assert each.capacity_gap_seconds is not None
        assert 0 < each.capacity_gap_seconds < NOTICE_SECONDS
    seen = {reading.part for sample in samples for reading in sample.readings}
    assert seen >= {Part.SERVER, Part.FUNCTION, Part.AGENT, Part.ENGINE}
