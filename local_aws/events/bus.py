"""EventBridge: events reach the targets of every enabled rule that matches, if they are let in there."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.events.exceptions import InvalidEventPatternException, ValidationException
from moto.events.models import EventPatternParser, EventsBackend, Rule, events_backends
from moto.events.utils import EventTemplateParser
from moto.sqs.models import Queue, sqs_backends

from local_aws.events.patterns import BadPatternError, check_pattern
from local_aws.iam.policy import Decision, Request, Statement, evaluate, parse_policy
from local_aws.moto_override import wrap
from local_aws.world import World

Event = dict[str, Any]


class EventBus:
    """The default bus of one local AWS."""

    def __init__(self, world: World) -> None:
        self._world = world

    def emit(
        self,
        *,
        source: str,
        detail_type: str,
        detail: Mapping[str, Any],
        resources: Sequence[str] = (),
        at: float | str | None = None,
    ) -> str:
        """Offer an event to all rules of the default bus; return its id. `at`: epoch seconds or ISO 8601."""
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": detail_type,
            "source": source,
            "account": self._world.account_id,
            "time": at if isinstance(at, str) else iso_seconds(time.time() if at is None else at),
            "region": self._world.region,
            "resources": list(resources),
            "detail": dict(detail),
        }
        self._world.timeline.record("event_emitted", event=event)
        with self._world.lock:
            bus = events_backends[self._world.account_id][self._world.region].event_buses["default"]
            for rule in list(bus.rules.values()):
                self.offer(rule, event)
        return str(event["id"])

    def offer(self, rule: Rule, event: Event) -> None:
        """Send the event to the rule's targets, if the rule is enabled and matches. Hold the world's lock."""
        if rule.state != "ENABLED" or rule.event_pattern.dump() is None:
            return
        if rule.event_pattern.matches_event(event):
            for target in rule.targets:
                self._deliver(rule, target, event)

    def _deliver(self, rule: Rule, target: Mapping[str, Any], event: Event) -> None:
        problem = self._send(rule, target["Arn"], _input_for(target, event))
        dead_letters = target.get("DeadLetterConfig", {}).get("Arn")
        if problem and dead_letters:
            problem = self._send(rule, dead_letters, json.dumps(event)) and problem
        self._world.timeline.record(
            "event_undelivered" if problem else "event_delivered",
            event_id=event["id"],
            rule=rule.name,
            target=target["Arn"],
            **({"reason": problem} if problem else {}),
        )

    def _send(self, rule: Rule, arn: str, body: str) -> str | None:
        """Hand an event to a queue or function as EventBridge; return what kept it out, or None."""
        return self._invoke(rule, arn, body) if ":lambda:" in arn else self._put(rule, arn, body)

    def _invoke(self, rule: Rule, arn: str, body: str) -> str | None:
        """Leave an event to Lambda, which invokes the function when it can: asynchronously."""
        functions = lambda_backends[self._world.account_id][self._world.region].list_functions()
        function = next((each for each in functions if each.function_arn == arn), None)
        if function is None:
            return f"there is no function {arn}"
        statements = parse_policy({"Statement": function.policy.statements})
        if not self._let_in(rule, arn, action="lambda:InvokeFunction", statements=statements):
            return f"the policy of {arn} does not let events.amazonaws.com invoke it for {rule.arn}"
        self._world.invoke_later(arn, body.encode())
        return None

    def _put(self, rule: Rule, arn: str, body: str) -> str | None:
        backend = sqs_backends[self._world.account_id][self._world.region]
        queue: Queue | None = next((q for q in backend.queues.values() if q.queue_arn == arn), None)
        if queue is None:
            return f"there is no queue {arn}"
        statements = parse_policy(queue.policy or "{}")
        if not self._let_in(rule, arn, action="sqs:SendMessage", statements=statements):
            return f"the policy of {arn} does not let events.amazonaws.com send for {rule.arn}"
        backend.send_message(queue.name, body)
        return None

    def _let_in(self, rule: Rule, arn: str, *, action: str, statements: Sequence[Statement]) -> bool:
        request = Request(
            action=action,
            resource=arn,
            service="events.amazonaws.com",
            context={
                "aws:SourceArn": str(rule.arn),
                "aws:SourceAccount": self._world.account_id,
                "aws:SecureTransport": "true",
            },
        )
        return evaluate([statements], request) is Decision.ALLOW


def iso_seconds(epoch: float) -> str:
    """Return an event's `time`: UTC in whole seconds, as AWS writes it."""
    return datetime.fromtimestamp(epoch, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _input_for(target: Mapping[str, Any], event: Event) -> str:
    if "Input" in target:
        return str(target["Input"])
    if transformer := target.get("InputTransformer"):
        changed = EventTemplateParser.parse(
            input_template=transformer.get("InputTemplate"),
            input_paths_map=transformer.get("InputPathsMap", {}),
            event=event,
        )
        return changed if isinstance(changed, str) else json.dumps(changed)
    return json.dumps(event)


def _put_pattern_rule(original: Callable[..., Rule], backend: EventsBackend, name: str, **given: Any) -> Rule:
    if given.get("scheduled_expression"):
        raise ValidationException(f"the local AWS runs no schedules: {name}")
    return original(backend, name, **given)


def install(world: World) -> None:
    """Take over the delivery of events, and refuse what cannot be delivered or matched."""
    bus = EventBus(world)
    world.emit_event = bus.emit
    put_targets, put_events = EventsBackend.put_targets, EventsBackend.put_events
    wrap(EventsBackend, "put_rule", _put_pattern_rule)

    def send_to_targets(rule: Rule, original_event: Event, transform_input: bool = True) -> None:  # noqa: ARG001
        event = {key: value for key, value in original_event.items() if key != "ingestion-time"}
        event["time"] = iso_seconds(float(event["time"]))
        bus.offer(rule, event)

    def put_known_targets(
        backend: EventsBackend, name: str, event_bus_arn: str | None, targets: list[dict[str, Any]]
    ) -> None:
        for target in targets:
            if not {"sqs", "lambda"} & set(target["Arn"].split(":")[2:3]) or "InputPath" in target:
                raise ValidationException(
                    "the local AWS delivers events to SQS queues and Lambda functions only, without "
                    f"InputPath: {target['Arn']}"
                )
        put_targets(backend, name, event_bus_arn, targets)

    def put_foreign_events(backend: EventsBackend, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        refused = {
            "ErrorCode": "NotAuthorizedForSourceException",
            "ErrorMessage": "Not authorized for the source.",
        }
        if len(events) > 10:
            return put_events(backend, events)  # type: ignore[no-any-return] # refuses them all
        answers: list[dict[str, Any]] = []
        for event in events:
            own = str(event.get("Source", "")).startswith("aws.")
            answers += [refused] if own else put_events(backend, [event])
        return answers

    def validate(_: EventPatternParser, pattern: dict[str, Any]) -> None:
        try:
            check_pattern(pattern)
        except BadPatternError as err:
            raise InvalidEventPatternException(reason=str(err)) from err

    Rule.send_to_targets = send_to_targets
    EventsBackend.put_targets = put_known_targets
    EventsBackend.put_events = put_foreign_events
    EventPatternParser._validate_event_pattern = validate
    world.route("POST", "events", lambda given: {"id": _put(bus, given)})


def _put(bus: EventBus, given: Mapping[str, Any]) -> str:
    return bus.emit(
        source=str(given["source"]),
        detail_type=str(given["detail_type"]),
        detail=given["detail"],
        resources=given.get("resources", ()),
        at=given.get("time"),
    )
