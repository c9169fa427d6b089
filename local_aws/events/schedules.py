"""EventBridge Scheduler: what the deployed schedules invoke, by the clock and when a test asks for it.

After the EventBridge Scheduler user guide: a schedule invokes its target under its own role, which has to
trust scheduler.amazonaws.com and allow the call; `rate(...)` counts from the schedule's creation. Emulated:
schedules at a rate, without a flexible window, of Lambda functions, that try nothing twice. Everything else
is refused by its name.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from moto.scheduler.models import EventBridgeSchedulerBackend, Schedule, scheduler_backends

from local_aws.cloudformation.models import simple_model
from local_aws.cloudformation.seam import register_model
from local_aws.functions.pool import Functions, ThrottledError
from local_aws.iam.authorization import Authorizer
from local_aws.iam.sessions import CannotAssumeRoleError, assume_role_for_service
from local_aws.moto_override import wrap
from local_aws.world import World

log = logging.getLogger(__name__)

SERVICE = "scheduler.amazonaws.com"
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_LOOK_SECONDS = 0.5


class UnsupportedScheduleError(ValueError):
    """The schedule is one that is not emulated; the message says why."""


def rate_seconds(expression: str) -> float:
    """Return the seconds between two runs. Raises UnsupportedScheduleError."""
    match = _RATE.fullmatch(expression)
    if match is None or int(match[1]) == 0:
        raise UnsupportedScheduleError(f"the local AWS runs schedules at a rate only, not {expression}")
    return int(match[1]) * _SECONDS[match[2]]


def check(given: Mapping[str, Any]) -> None:
    """Raise UnsupportedScheduleError unless the schedule, as CreateSchedule takes it, can be run."""
    rate_seconds(given["schedule_expression"])
    target = given["target"]
    if (given.get("flexible_time_window") or {}).get("Mode") != "OFF":
        raise UnsupportedScheduleError("the local AWS runs schedules without a flexible time window only")
    if ":lambda:" not in target["Arn"]:
        raise UnsupportedScheduleError(
            f"the local AWS's schedules invoke functions only, not {target['Arn']}"
        )
    if int(target.get("RetryPolicy", {}).get("MaximumRetryAttempts", 185)) != 0:
        raise UnsupportedScheduleError("the local AWS's schedules try nothing twice: MaximumRetryAttempts 0")


class Schedules:
    """Runs the schedules of the account and region."""

    def __init__(self, world: World, functions: Functions, authorizer: Authorizer) -> None:
        self._world = world
        self._functions = functions
        self._authorizer = authorizer
        self._last_runs: dict[str, float] = {}
        self._paused = False
        self._time_factor = 1.0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Run what is due, until `stop`."""
        while not self._stopped.wait(_LOOK_SECONDS):
            for schedule in self._due():
                threading.Thread(target=self._run_quietly, args=(schedule,), daemon=True).start()

    def stop(self) -> None:
        """Run nothing more."""
        self._stopped.set()

    def change(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Set `paused`, `time_factor`, or both; see `Control.schedules`."""
        factor = float(given.get("time_factor") or 1.0)
        if factor <= 0:
            raise ValueError(f"time_factor must be above 0, not {factor}")
        self._paused, self._time_factor = bool(given.get("paused")), factor
        return {"paused": self._paused, "time_factor": factor}

    def run_now(self, name: str) -> dict[str, Any]:
        """Run a schedule out of turn and wait; return what the function answered. Raises LookupError."""
        with self._world.lock:
            known = {one.name: one for one in self._schedules()}
        if name not in known:
            raise LookupError(f"there is no schedule {name}; there are: {sorted(known)}")
        return self._invoke(known[name])

    def _schedules(self) -> list[Schedule]:
        backend = scheduler_backends[self._world.account_id][self._world.region]
        return [one for group in backend.schedule_groups.values() for one in group.schedules.values()]

    def _due(self) -> list[Schedule]:
        now, due = time.time(), []
        with self._world.lock:
            for schedule in self._schedules():
                last = self._last_runs.setdefault(schedule.arn, now)
                late = now - last >= rate_seconds(schedule.schedule_expression) * self._time_factor
                if late:
                    self._last_runs[schedule.arn] = now
                if late and schedule.state == "ENABLED" and not self._paused:
                    due.append(schedule)
        return due

    def _run_quietly(self, schedule: Schedule) -> None:
        try:
            self._invoke(schedule)
        except Exception as err:
            log.exception("schedule %s", schedule.name)
            self._world.timeline.record("schedule_problem", schedule=schedule.name, reason=str(err))

    def _invoke(self, schedule: Schedule) -> dict[str, Any]:
        """Invoke a schedule's function under its role; return its error (None: none) and its answer."""
        role, arn = str(schedule.target["RoleArn"]), str(schedule.target["Arn"])
        try:
            assume_role_for_service(
                self._world, role_arn=role, service=SERVICE, session_name="sweep", source_arn=schedule.arn
            )
        except CannotAssumeRoleError as err:
            return self._told(schedule, str(err), b"")
        denial = self._authorizer.denied_to_service(
            role_arn=role, by=SERVICE, action="lambda:InvokeFunction", arn=arn
        )
        if denial:
            return self._told(schedule, denial, b"")
        payload = str(schedule.target.get("Input", "{}")).encode()
        try:
            result = self._functions.invoke(self._functions.named(arn), payload)
        except (ThrottledError, LookupError) as err:
            return self._told(schedule, str(err), b"")
        return self._told(schedule, result.error, result.payload)

    def _told(self, schedule: Schedule, error: str | None, payload: bytes) -> dict[str, Any]:
        self._world.timeline.record("schedule_run", schedule=schedule.name, error=error)
        return {"error": error, "payload": payload.decode(errors="replace")}


def install(world: World, functions: Functions, authorizer: Authorizer) -> None:
    """Take schedules in, from templates and calls, and run them."""

    def checked(original: Any, backend: EventBridgeSchedulerBackend, **given: Any) -> Schedule:
        check(given)
        return original(backend, **given)

    def create_from_template(name: str, properties: Mapping[str, Any]) -> None:
        target = properties["Target"]
        scheduler_backends[world.account_id][world.region].create_schedule(
            description=properties.get("Description"),
            end_date=properties.get("EndDate"),
            flexible_time_window=properties["FlexibleTimeWindow"],
            group_name=properties.get("GroupName"),
            kms_key_arn=properties.get("KmsKeyArn"),
            name=properties.get("Name", name),
            schedule_expression=properties["ScheduleExpression"],
            schedule_expression_timezone=properties.get("ScheduleExpressionTimezone"),
            start_date=properties.get("StartDate"),
            state=properties.get("State"),
            target=dict(target),
            action_after_completion=None,
        )

    def configure_events(_: str, properties: Mapping[str, Any]) -> None:
        if int(properties.get("MaximumRetryAttempts", 2)) != 0 or "DestinationConfig" in properties:
            raise NotImplementedError("an asynchronous invocation is configured for no retry only")

    wrap(EventBridgeSchedulerBackend, "create_schedule", checked)
    wrap(EventBridgeSchedulerBackend, "update_schedule", checked)
    register_model(simple_model("AWS::Scheduler::Schedule", "Name", create_from_template))
    register_model(simple_model("AWS::Lambda::EventInvokeConfig", "", configure_events))
    schedules = Schedules(world, functions, authorizer)
    threading.Thread(target=schedules.run, name="schedules", daemon=True).start()
    world.on_stop(schedules.stop)
    world.route("POST", "schedules", schedules.change)
    world.route("POST", "run-schedule", lambda given: schedules.run_now(str(given["name"])))
