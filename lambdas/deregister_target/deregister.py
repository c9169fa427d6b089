"""Out of every target group of its fleet, one call for each target group and batch; the last ones stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from spot_failover.departures import BUSY, ActionResult, Departure, Late, failure, is_busy, never_late
from spot_failover.errors import AwsCallError, PermanentAwsError
from spot_failover.fleets import Fleet, FleetDirectory
from spot_failover.outcomes import Disposition, Outcome, disposition

from deregister_target.last_nodes import Plan, look_again_seconds, plan
from deregister_target.memory import Departing
from deregister_target.registering import Registering
from deregister_target.tagged_groups import TaggedTargetGroups
from deregister_target.targets import Registration, TargetGroup, TargetHealth

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

Results = dict[str, ActionResult]


def target_groups(
    departures: Sequence[Departure], fleets: Mapping[str, Fleet], tagged: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[Departure]], Results]:
    """Return who is to leave each target group, and the results where there is none.

    A fleet's target groups are those attached to its groups and those that carry its tag.
    """
    targets: dict[str, list[Departure]] = defaultdict(list)
    settled: Results = {}
    for departure in departures:
        fleet = fleets[departure.node.fleet]
        arns = dict.fromkeys([*fleet.target_group_arns, *tagged.get(fleet.name, ())])
        if not arns:
            none = Outcome.NO_TARGET_GROUP if fleet.groups else Outcome.NO_GROUP
            settled[departure.node.instance_id] = ActionResult(none)
        for arn in arns:
            targets[arn].append(departure)
    return dict(targets), settled


def combine(results: Sequence[tuple[str, ActionResult]]) -> ActionResult:
    """Return one node's result over all its target groups: what is left to do outweighs what is done.

    What one group refuses for good is not the end while another is to be left yet; it stands in the detail.
    """
    weight = {Disposition.RETRY: 0, Disposition.DEAD_LETTER: 2, Disposition.DONE: 3}
    held = [result for _, result in results if result.outcome is Outcome.HELD]
    worst = min(
        (result for _, result in results),
        key=lambda result: 1 if result in held else weight[disposition(result.outcome)],
    )
    if disposition(worst.outcome) is not Disposition.DONE:
        refused = next((result for _, result in results if result.outcome is Outcome.FAILED), worst)
        detail = worst.detail if refused is worst else {**worst.detail, "refused": dict(refused.detail)}
        again = held[0].look_again if held else worst.look_again
        return replace(worst, detail=detail, look_again=again)
    registered = any(result.outcome is Outcome.DEREGISTERED for _, result in results)
    outcome = Outcome.DEREGISTERED if registered else Outcome.NOT_REGISTERED
    return ActionResult(outcome, {"target_groups": [arn for arn, _ in results]})


class Deregister:
    """Deregisters departing nodes. Deregistering one again, or one that is gone, changes nothing.

    Two of these can run at once and see half of a fleet's departures each. So each looks again when it has
    deregistered: the later one sees that nobody is left, and takes its own nodes back.
    """

    def __init__(
        self,
        elbv2: ElasticLoadBalancingv2Client,
        directory: FleetDirectory,
        tagged: TaggedTargetGroups,
        *,
        reserve: timedelta,
    ) -> None:
        """`reserve`: so long before its deadline a node leaves even if nobody else could serve."""
        self._directory = directory
        self._tagged = tagged
        self._reserve = reserve
        self._health = TargetHealth(elbv2)
        self._registering = Registering(elbv2)
        self._departing = Departing()
        self._failing: set[str] = set()  # target groups whose calls failed last time

    def __call__(self, departures: Sequence[Departure], now: datetime, late: Late = never_late) -> Results:
        """Answer for each departure, by instance id."""
        self._departing.add(departures, now=now)
        names = {departure.node.fleet for departure in departures}
        try:
            fleets = self._directory.fleets(names, now=now)
        except AwsCallError as error:
            return {departure.node.instance_id: failure(error) for departure in departures}
        tagged, unknown = self._tagged_groups(departures, now)
        targets, results = target_groups(departures, fleets, tagged)
        answers: dict[str, list[tuple[str, ActionResult]]] = defaultdict(list, unknown)
        for arn, answer in self._leave(targets, now, late).items():
            for instance_id, result in answer.items():
                answers[instance_id].append((arn, result))
        results |= {instance_id: combine(answer) for instance_id, answer in answers.items()}
        self._forget_failed(departures, targets, results)
        return {key: self._told_once(key, result) for key, result in results.items()}

    def _tagged_groups(
        self, departures: Sequence[Departure], now: datetime
    ) -> tuple[Mapping[str, Sequence[str]], dict[str, list[tuple[str, ActionResult]]]]:
        """Return the fleets' tagged groups; where nobody can tell, a result that is still to do."""
        try:
            tagged = self._tagged.of_fleets((one.node.fleet for one in departures), now=now)
        except AwsCallError as error:
            # The groups that are attached are known: they are left meanwhile.
            return {}, {one.node.instance_id: [("tagged", failure(error))] for one in departures}
        return tagged, {}

    def _leave(
        self, targets: Mapping[str, Sequence[Departure]], now: datetime, late: Late
    ) -> dict[str, Results]:
        """Act on each target group, the most urgent first, and look again at those that somebody left.

        Those whose calls failed last time come last: calls that hang again leave the others their time.
        """
        answers: dict[str, Results] = {}
        left: dict[str, list[Departure]] = {}
        for arn, going in sorted(targets.items(), key=lambda item: item[0] in self._failing):
            if answers and late():
                answers[arn] = {one.node.instance_id: BUSY for one in going}
                continue
            try:
                group = self._group(arn, going, now)
            except AwsCallError as error:
                answers[arn] = self._without_knowing(arn, going, error, now)
                continue
            planned = self._plan(group, going, now)
            answers[arn] = self._carry_out(group, going, planned, now)
            if planned.deregister:
                left[arn] = [one for one in going if one.node.instance_id not in planned.unneeded]
        for arn, gone in left.items():
            answers[arn] |= self._look_again(arn, gone, answers[arn], now, late)
        self._failing = {arn for arn, answer in answers.items() if any(map(_failed, answer.values()))}
        return answers

    def _group(self, arn: str, going: Sequence[Departure], now: datetime) -> TargetGroup:
        """Return what is remembered of a group where that is enough to let everybody leave, or read it."""
        group = self._health.remembered(arn, now=now)
        if group is not None:
            planned = self._plan(group, going, now)
            # That a node is out already is not taken from memory: another function may have held it since.
            if not planned.held and not planned.absent and not planned.out:
                return group
        return self._read(arn, now)

    def _read(self, arn: str, now: datetime) -> TargetGroup:
        group = self._health.read(arn, now=now)
        self._departing.note(group)
        return group

    def _plan(self, group: TargetGroup, going: Sequence[Departure], now: datetime) -> Plan:
        return plan(
            group,
            going,
            leaving=self._departing.instance_ids,
            known=self._departing.known(group.arn),
            now=now,
            reserve=self._reserve,
        )

    def _carry_out(
        self, group: TargetGroup, going: Sequence[Departure], planned: Plan, now: datetime
    ) -> Results:
        results = dict.fromkeys(planned.out, ActionResult(Outcome.DEREGISTERED))
        results |= dict.fromkeys(planned.absent, ActionResult(Outcome.NOT_REGISTERED))
        for departure in going:
            if departure.node.instance_id in planned.held:
                detail = {"target_group": group.arn}
                again = look_again_seconds(departure, now=now)
                results[departure.node.instance_id] = ActionResult(Outcome.HELD, detail, again)
        results |= self._registering.deregister(group.arn, planned.deregister)
        # Only what went wrong: a node that was registered again is held, which is said above.
        return results | self._registering.register(group.arn, planned.register)

    def _look_again(
        self, arn: str, going: Sequence[Departure], answered: Results, now: datetime, late: Late
    ) -> Results:
        """Hold those after all who left nobody behind: somebody else may have left in the same moment."""
        gone = [one for one in going if answered[one.node.instance_id].outcome is Outcome.DEREGISTERED]
        early = [one for one in gone if one.deadline - now > self._reserve]
        if late():
            return {one.node.instance_id: BUSY for one in early}
        try:
            group = self._read(arn, now)
        except PermanentAwsError:
            return {}
        except AwsCallError as error:
            return {one.node.instance_id: failure(error) for one in early}
        planned = self._plan(group, gone, now)
        held = [one for one in gone if one.node.instance_id in planned.held]
        return self._carry_out(group, held, Plan(register=planned.register, held=planned.held), now)

    def _without_knowing(
        self, arn: str, going: Sequence[Departure], error: AwsCallError, now: datetime
    ) -> Results:
        """Decide where the load balancer does not tell who could serve: ask again, if there is time.

        Where it never will tell, its refusal is the result, but the nodes leave all the same.
        """
        known = self._departing.known(arn)
        never = isinstance(error, PermanentAwsError)
        leaving = [one for one in going if never or one.deadline - now <= self._reserve]
        registrations = [
            registration
            for one in leaving
            for registration in known.get(one.node.instance_id, [Registration(one.node.instance_id)])
        ]
        results: Results = {one.node.instance_id: failure(error) for one in going}
        done = self._registering.deregister(arn, registrations)
        return results if never else results | done

    def _forget_failed(
        self, departures: Sequence[Departure], targets: Mapping[str, object], results: Results
    ) -> None:
        outcomes = {one.node.instance_id: results[one.node.instance_id].outcome for one in departures}
        failed = {
            one.node.fleet
            for one in departures
            if (outcome := outcomes[one.node.instance_id]) is not Outcome.HELD
            and disposition(outcome) is not Disposition.DONE
        }
        for name in failed:
            self._directory.forget(name)
            self._tagged.forget(name)
        if failed:
            for arn in targets:
                self._health.forget(arn)

    def _told_once(self, instance_id: str, result: ActionResult) -> ActionResult:
        """Mark a hold that goes on: it is logged, counted and recorded when it begins."""
        if result.outcome is not Outcome.HELD:
            return result
        return replace(result, told=self._departing.first_hold(instance_id))


def _failed(result: ActionResult) -> bool:
    return result.outcome is Outcome.RETRYING and not is_busy(result)
