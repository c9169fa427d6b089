"""What a function says about its work: one log line and one count for every outcome.

Metrics are EMF in namespace `SpotFailover` with the one dimension `fleet`: `<step>.<outcome>` counts, and
`<step>.seconds` is the time since the notice at which a step succeeded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from spot_failover.outcomes import SUCCESSES, Disposition, Outcome, Step, disposition

logger = Logger()

NO_FLEET = "none"
_ERRORS = frozenset({Outcome.FAILED, Outcome.MISSED, Outcome.LAUNCH_FAILED, Outcome.BOOT_FAILED})


class Telemetry:
    """Logs at once, and collects metrics until `flush`, which prints them per fleet."""

    def __init__(self, *, namespace: str) -> None:
        self._namespace = namespace
        self._metrics: dict[str, list[tuple[str, MetricUnit, float]]] = defaultdict(list)

    def outcome(
        self,
        step: Step,
        outcome: Outcome,
        *,
        incident: str | None,
        instance_id: str | None,
        fleet: str | None,
        detail: Mapping[str, Any],
        seconds: float | None = None,
    ) -> None:
        """Tell how a step ended. `seconds` is the time since the notice; a foreign instance has no fleet."""
        extra = {
            "incident": incident,
            "instance_id": instance_id,
            "fleet": fleet,
            "step": step.value,
            "outcome": outcome.value,
            "detail": dict(detail),
        }
        message = f"{step}: {outcome}"
        if outcome in _ERRORS:
            logger.error(message, extra=extra)
        elif disposition(outcome) is Disposition.RETRY:
            logger.warning(message, extra=extra)
        else:
            logger.info(message, extra=extra)
        self.count(f"{step}.{outcome}", fleet=fleet)
        if seconds is not None and outcome in SUCCESSES:
            # The notice's time is in whole seconds of another clock: "before the notice" means "at once".
            self.measure(f"{step}.seconds", MetricUnit.Seconds, max(0.0, seconds), fleet=fleet)

    def engine_failed(self, *, instance_id: str, fleet: str, reason: str, restarts: int, final: bool) -> None:
        """Tell that a node's engine failed: no step of an incident, but the fleet's health."""
        extra = {
            "instance_id": instance_id,
            "fleet": fleet,
            "reason": reason,
            "restarts": restarts,
            "final": final,
        }
        logger.error("engine: failed", extra=extra)
        self.count("engine.failed", fleet=fleet)

    def malformed(self, *, message_id: str, reason: str) -> None:
        """Tell that a message is not what its queue is for."""
        logger.error("message: malformed", extra={"message_id": message_id, "reason": reason})
        self.count("message.malformed", fleet=None)

    def count(self, name: str, *, fleet: str | None) -> None:
        """Count one of something."""
        self.measure(name, MetricUnit.Count, 1, fleet=fleet)

    def measure(self, name: str, unit: MetricUnit, value: float, *, fleet: str | None) -> None:
        """Add one value of a metric."""
        self._metrics[fleet or NO_FLEET].append((name, unit, value))

    def flush(self) -> None:
        """Print what was collected, one EMF object for each fleet."""
        collected, self._metrics = self._metrics, defaultdict(list)
        for fleet, values in collected.items():
            # An empty service keeps Powertools from adding it as a second dimension.
            provider = AmazonCloudWatchEMFProvider(namespace=self._namespace, service="")
            provider.add_dimension("fleet", fleet)
            for name, unit, value in values:
                provider.add_metric(name, unit, value)
            provider.flush_metrics()
