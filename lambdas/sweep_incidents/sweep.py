"""One sweep over all open incidents of the account: read, judge, act, write, tell.

Nothing is kept between sweeps, and two at once do no harm: an instance leaves its group once and ends once,
and what is written is refused to all but the first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import MetricUnit
from request_replacement.replacement import RequestReplacement
from spot_failover.batches import chunks
from spot_failover.departures import ActionResult, Departure
from spot_failover.errors import AwsCallError, PermanentAwsError, RetryableAwsError
from spot_failover.fleets import FleetDirectory, Node
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry, Incident
from spot_failover.open_incidents import Amendment, OpenIncident, OpenIncidents
from spot_failover.outcomes import Outcome, Step
from spot_failover.settings import SweepSettings
from spot_failover.telemetry import Telemetry, logger
from spot_failover.timestamps import utc_now

from sweep_incidents import judgement
from sweep_incidents.amending import entry_of, judged, lagging, overlong_boots, waiting_members
from sweep_incidents.ending import end_nodes
from sweep_incidents.findings import Findings
from sweep_incidents.judgement import Judgement, Limits
from sweep_incidents.surroundings import Machine, members_of_any_group, read_groups, read_machines

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client

# Those whose notice runs, then the oldest; what is left over is a minute late.
MOST_INCIDENTS = 2000
# Some transactions' worth: one that is refused holds up no others.
WRITTEN_AT_ONCE = 50
# A notice's time is in whole seconds of another clock.
CLOCK_SLACK = timedelta(seconds=60)


class Sweep:
    """Sweeps, as often as it is called."""

    def __init__(
        self,
        *,
        settings: SweepSettings,
        ec2: EC2Client,
        autoscaling: AutoScalingClient,
        dynamodb: DynamoDBClient,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._limits = Limits(grace=settings.grace, boot=settings.boot_limit)
        self._ec2 = ec2
        self._autoscaling = autoscaling
        self._table = IncidentTable(
            dynamodb,
            table=settings.incidents_table,
            ttl=settings.incident_ttl,
            fleet_index=settings.incidents_fleet_index,
        )
        self._open = OpenIncidents(dynamodb, self._table, index=settings.incidents_open_index)
        self._request = RequestReplacement(
            autoscaling, FleetDirectory(autoscaling, tag_key=settings.fleet_tag_key)
        )
        self._clock = clock

    def handle(self) -> dict[str, int]:
        """Sweep once and return how many outcomes of each kind it wrote.

        What AWS could not serve is left to the next sweep. Raises PermanentAwsError for what it refused, when
        all the rest is done: somebody must look.
        """
        telemetry = Telemetry(namespace=self._settings.metrics_namespace)
        problems: list[AwsCallError] = []
        try:
            counts = self._sweep(telemetry, problems)
        except AwsCallError as error:
            problems.append(error)
            counts = {}
        for problem in problems:
            logger.warning("sweep: cut short", extra={"error": str(problem)})
            telemetry.count("sweep.cut_short", fleet=None)
        telemetry.flush()
        for problem in problems:
            if not isinstance(problem, RetryableAwsError):
                raise problem
        return counts

    def _sweep(self, telemetry: Telemetry, problems: list[AwsCallError]) -> dict[str, int]:
        now = self._clock()
        ripe = [one for one in self._open.read() if now >= one.noticed_at + judgement.PATIENCE]
        if not ripe:
            return {}
        # Of the rest nothing can be requested any more, and in a shortage they stay open for an hour.
        ripe.sort(key=lambda one: one.deadline <= now)
        findings = Findings(marks={one.incident: one for one in ripe[:MOST_INCIDENTS]})
        self._read_incidents(findings, problems)
        self._read_groups(findings, problems)
        self._request_replacements(findings, now, problems)
        # At once: whose detach is not on record, nobody ends.
        counts = self._write(findings, {}, telemetry, problems)
        self._read_machines(findings, now, problems)
        self._judge(findings, now, problems)
        self._note_groups(findings, now, telemetry)
        return dict(counts + self._write(findings, findings.closing_marks, telemetry, problems))

    def _read_incidents(self, findings: Findings, problems: list[AwsCallError]) -> None:
        by_fleet: dict[str, list[OpenIncident]] = defaultdict(list)
        for one in findings.marks.values():
            by_fleet[one.fleet].append(one)
        for fleet, marked in by_fleet.items():
            since = min(min(one.noticed_at, one.marked_at) for one in marked) - CLOCK_SLACK
            try:
                findings.incidents[fleet] = self._table.incidents_of_fleet(fleet, since=since)
            except AwsCallError as error:
                problems.append(error)

    def _read_groups(self, findings: Findings, problems: list[AwsCallError]) -> None:
        """Ask about groups while somebody waits for a replacement."""
        unreplaced = findings.unreplaced
        if not unreplaced:
            return
        fleets = {one.fleet for one in unreplaced}
        try:
            for group in read_groups(self._autoscaling, fleets, tag_key=self._settings.fleet_tag_key):
                findings.groups.setdefault(group.fleet, []).append(group)
        except AwsCallError as error:
            problems.append(error)
            findings.unknown |= {one.incident for one in unreplaced}

    def _read_machines(self, findings: Findings, now: datetime, problems: list[AwsCallError]) -> None:
        """Ask about nodes that matter now."""
        asked = {
            one.incident
            for one in findings.open
            if judgement.depends_on_machine(one, findings.membership(one)[1], now=now, limits=self._limits)
        }
        # No replacement can be late whose incident is younger than a boot may be.
        slow = {one.fleet for one in findings.unreplaced if now >= one.noticed_at + self._limits.boot}
        waiting = {key for fleet in slow for key in waiting_members(findings.groups.get(fleet, ()))}
        try:
            findings.machines = read_machines(
                self._ec2, asked | waiting, tag_key=self._settings.fleet_tag_key
            )
        except AwsCallError as error:
            problems.append(error)
            findings.unknown |= asked

    def _request_replacements(self, findings: Findings, now: datetime, problems: list[AwsCallError]) -> None:
        """Do what `request_replacement` failed to do, or was never told to, while the notice runs."""
        wanting = {
            one.incident: one
            for one in findings.open
            if judgement.wants_request(one, findings.departed(one), now=now)
        }
        departures = [
            Departure(Node(key, one.fleet, findings.membership(one)[0]), one.noticed_at, one.last_deadline)
            for key, one in wanting.items()
        ]
        if not departures:
            return
        at = self._clock()
        for key, result in self._request(departures, now).items():
            one = wanting[key]
            findings.entries[key].append(
                entry_of(one, Step.REPLACEMENT_REQUEST, result.outcome, at, **result.detail)
            )
            _note_refusal(result, problems)

    def _judge(self, findings: Findings, now: datetime, problems: list[AwsCallError]) -> None:
        """End the nodes that outlive their notice, and tell what is over; the next sweep sees them gone."""
        ending = {one.incident: one for one in findings.known if self._verdict(findings, one, now).ends_node}
        try:
            findings.elsewhere = members_of_any_group(self._autoscaling, ending)
        except AwsCallError as error:
            problems.append(error)
            findings.unknown |= ending.keys()
            ending = {}
        ended = end_nodes(self._ec2, sorted(ending.keys() - findings.elsewhere))
        for key, result in ended.items():
            _note_refusal(result, problems)
            if result.outcome is not ending[key].outcomes.get(Step.NODE_END):
                entry = _end_entry(ending[key], result, findings.machines[key], at=self._clock())
                findings.entries[key].append(entry)
        for one in findings.known:
            verdict = self._verdict(findings, one, now)
            result_of_end = ended.get(one.incident)
            just_ended = result_of_end is not None and result_of_end.outcome is Outcome.ENDED
            closes = verdict.closing is not None and not just_ended
            findings.entries[one.incident] += judged(one, verdict, closes=closes, now=now)
            findings.closed |= {one.incident} if closes else set()

    def _verdict(self, findings: Findings, incident: Incident, now: datetime) -> Judgement:
        return judgement.judge(incident, findings.departed(incident), now=now, limits=self._limits)

    def _note_groups(self, findings: Findings, now: datetime, telemetry: Telemetry) -> None:
        """Tell of groups that launch nothing and of boots that never end: only the group can mend either."""
        for fleet, groups in findings.groups.items():
            incidents = [one for one in findings.open if one.fleet == fleet]
            notes = lagging(incidents, groups, now=now)
            waiting = {
                key: findings.machines[key] for key in waiting_members(groups) & findings.machines.keys()
            }
            notes += overlong_boots(findings.incidents[fleet], waiting, now=now, limits=self._limits)
            for incident, entry in notes:
                findings.entries[incident.incident].append(entry)
            if any(judgement.lags(one, now=now) for one in incidents):
                unfilled = sum(group.unfilled for group in groups)
                telemetry.measure("group.unfilled", MetricUnit.Count, unfilled, fleet=fleet)

    def _write(
        self,
        findings: Findings,
        closing: Mapping[str, OpenIncident],
        telemetry: Telemetry,
        problems: list[AwsCallError],
    ) -> Counter[str]:
        """Write what was found, each incident whole or not at all, and tell of what was written."""
        entries = {key: tuple(own) for key, own in findings.entries.items() if own}
        amendments = {
            key: Amendment(entries.get(key, ()), closing.get(key)) for key in {**entries, **closing}
        }
        written: list[Entry] = []
        for chunk in chunks(list(amendments), WRITTEN_AT_ONCE):
            try:
                made = self._open.amend({key: amendments[key] for key in chunk})
            except AwsCallError as error:
                problems.append(error)
                continue
            for key in made:
                written += findings.entries.pop(key, ())
        for entry in written:
            telemetry.outcome(
                entry.step,
                entry.outcome,
                incident=entry.incident,
                instance_id=entry.incident,
                fleet=entry.fleet,
                detail=entry.detail,
                seconds=(entry.at - entry.noticed_at).total_seconds(),
            )
        return Counter(f"{entry.step}.{entry.outcome}" for entry in written)


def _end_entry(incident: Incident, result: ActionResult, machine: Machine, *, at: datetime) -> Entry:
    detail = {**result.detail, "state": machine.state, "spot_request": machine.spot_request}
    return entry_of(incident, Step.NODE_END, result.outcome, at, **detail)


def _note_refusal(result: ActionResult, problems: list[AwsCallError]) -> None:
    """Let what AWS refused for good raise the function's alarm: no dead letter does."""
    if result.outcome is Outcome.FAILED:
        action, code = result.detail["action"], result.detail["code"]
        message = str(result.detail["error"]).removeprefix(f"{action}: {code}: ")
        problems.append(PermanentAwsError(action, code, message))
