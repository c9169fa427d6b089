"""What is to become of an open incident: decisions only, with time passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from spot_failover.incidents import Incident
from spot_failover.outcomes import HAPPENED, Disposition, Outcome, Step, disposition

from sweep_incidents.surroundings import DETACHABLE, Machine

# Until then a notice is its functions' business: they retry, and nobody else uses up their request rates.
PATIENCE = timedelta(seconds=30)
# A function that still tries does so every few seconds; one that has not for so long has given up.
SILENCE = timedelta(seconds=20)
# A detach takes a moment, and nothing may be begun that the deadline cuts off.
LEAST_TIME_TO_REQUEST = timedelta(seconds=5)
# A group launches within seconds of a gap; one that has not after this long does not.
LAG_PATIENCE = timedelta(seconds=60)
# How long it is tried to end a node that AWS refuses to end, before its incident is closed without.
END_PATIENCE = timedelta(minutes=15)

EXPECTED = (Step.DEREGISTER, Step.DRAIN_COMMAND, Step.REPLACEMENT_REQUEST, Step.DRAIN, Step.REPLACEMENT)
"""What belongs to a whole incident. A boot's report does not: a fleet without the agent has none."""
# Missed: under an earlier notice, since the last one's deadline is not there yet.
_WORTH_ANOTHER_REQUEST = frozenset({None, Outcome.RETRYING, Outcome.FAILED, Outcome.MISSED})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long is waited for what. `boot`: until a launched node is ready, at the latest."""

    grace: timedelta
    boot: timedelta

    @property
    def replacement(self) -> timedelta:
        """From the notice until a replacement is in service: a boot that fails, and one that does not."""
        return 2 * self.boot


@dataclass(frozen=True, kw_only=True)
class Departed:
    """What is known of the departing node itself. `machine`: None when EC2 has ended it, or was not asked."""

    machine: Machine | None = None
    lifecycle_state: str | None = None
    """In its fleet's groups; None when it is in none of them."""
    elsewhere: bool = False
    """Some other group has it: it is somebody's."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What to do about an incident now. `missed`: steps whose time is over and that nobody has told."""

    missed: Mapping[Step, datetime]
    ends_node: bool = False
    closing: Outcome | None = None
    missing: tuple[Step, ...] = ()
    """Of a closing: what never happened."""


def due_at(step: Step, incident: Incident, limits: Limits) -> datetime:
    """Return when a step has to be known."""
    after_the_node = incident.last_deadline + limits.grace
    if step is Step.REPLACEMENT:
        return max(after_the_node, incident.last_noticed_at + limits.replacement)
    return after_the_node


def judge(incident: Incident, node: Departed, *, now: datetime, limits: Limits) -> Judgement:
    """Return what is to be done about an incident that is open."""
    stayed = _stayed(incident, node, now=now, limits=limits)
    awaited = [step for step in _awaited(incident, stayed=stayed) if not _is_over(step, incident)]
    due = {step: due_at(step, incident, limits) for step in awaited}
    missed = {step: at for step, at in due.items() if now >= at}
    orphan = is_ours_to_end(incident) and _is_orphan(node)
    ends_node = orphan and now >= incident.last_deadline + limits.grace
    refused = incident.outcomes.get(Step.NODE_END) is Outcome.FAILED
    given_up = refused and now >= incident.last_deadline + limits.grace + END_PATIENCE
    if len(missed) < len(due) or (orphan and not given_up) or _awaits_boot(incident, now=now, limits=limits):
        return Judgement(missed=missed, ends_node=ends_node)
    expected = EXPECTED[:-1] if stayed else EXPECTED
    missing = tuple(step for step in expected if incident.outcomes.get(step) not in HAPPENED)
    missing += (Step.NODE_END,) if orphan else ()
    closing = Outcome.CLOSED_INCOMPLETE if missing else Outcome.CLOSED
    return Judgement(missed=missed, ends_node=ends_node, closing=closing, missing=missing)


def _is_orphan(node: Departed) -> bool:
    return node.machine is not None and node.lifecycle_state is None and not node.elsewhere


def is_ours_to_end(incident: Incident) -> bool:
    """Whether it was us who took the node out of its group.

    "Already detached" is what a detach of ours becomes whose answer or record got lost; then the group
    launched a replacement after the notice. Without either, somebody else took the node out, and keeps it.
    """
    requests = [one for one in incident.entries if one.step is Step.REPLACEMENT_REQUEST]
    if any(one.outcome is Outcome.DETACHED for one in requests):
        return True
    if not any(one.outcome is Outcome.ALREADY_DETACHED for one in requests):
        return False
    tried = any(one.detail.get("action") == "autoscaling:DetachInstances" for one in requests)
    return tried or incident.replacement_instance_id is not None


def depends_on_machine(
    incident: Incident, lifecycle_state: str | None, *, now: datetime, limits: Limits
) -> bool:
    """Whether a judgement needs EC2's word on the node: it may outlive its notice, in its group or not."""
    late = now >= incident.last_deadline + limits.grace
    if not is_ours_to_end(incident):
        return late and lifecycle_state == "InService"
    return late or all(_is_over(step, incident) for step in _awaited(incident, stayed=False))


def wants_request(incident: Incident, node: Departed, *, now: datetime) -> bool:
    """Whether a replacement is to be asked for once more: the node is in its group, and its notice runs."""
    requests = [one for one in incident.entries if one.step is Step.REPLACEMENT_REQUEST]
    return (
        incident.outcomes.get(Step.REPLACEMENT_REQUEST) in _WORTH_ANOTHER_REQUEST
        and all(now >= one.at + SILENCE for one in requests)
        and incident.replacement_instance_id is None
        and node.lifecycle_state in DETACHABLE
        and now < incident.last_deadline - LEAST_TIME_TO_REQUEST
    )


def lags(incident: Incident, *, now: datetime) -> bool:
    """Whether the incident has waited for its group's launch longer than a launch takes to begin."""
    requested_at = incident.replacement_requested_at
    return incident.awaits_replacement and requested_at is not None and now >= requested_at + LAG_PATIENCE


def _awaited(incident: Incident, *, stayed: bool) -> tuple[Step, ...]:
    # Without a group nobody launches.
    without_replacement = stayed or incident.outcomes.get(Step.REPLACEMENT_REQUEST) is Outcome.NO_GROUP
    return EXPECTED[:-1] if without_replacement else EXPECTED


def _is_over(step: Step, incident: Incident) -> bool:
    outcome = incident.outcomes.get(step)
    return outcome is not None and disposition(outcome) is not Disposition.RETRY


def _stayed(incident: Incident, node: Departed, *, now: datetime, limits: Limits) -> bool:
    """Whether the node never left: its notice was withdrawn or told late, and it serves on."""
    runs = node.machine is not None and node.machine.state == "running"
    return runs and node.lifecycle_state == "InService" and now >= incident.last_deadline + limits.grace


def _awaits_boot(incident: Incident, *, now: datetime, limits: Limits) -> bool:
    """Whether the replacement may still tell how its boot went."""
    in_service_at = incident.replacement_in_service_at
    if in_service_at is None or incident.boot_phases is not None:
        return False
    return now < in_service_at + limits.grace
